"""`serinus rollout ...`: plan, start, run, watch and look back at rollouts; `steering` is how people intervene.

Invariant: only the controller (`rollout run`, a replay with `--rollouts`, or the operator) changes what a rollout is.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from serinus.cli import rollout_view
from serinus.cli.output import Service, command, err, finite, out, show_json, show_table
from serinus.core.errors import NotFound, SerinusError, UsageError
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Replayed
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout.local_store import LocalRollouts
from serinus.rollout.registry_sync import Synced
from serinus.wiring.project import open_project

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Name = Annotated[str, typer.Option("--rollout", help="Name of a rollout; the newest when not given.")]
Interval = Annotated[float, typer.Option(min=0.1, max=86_400, callback=finite, help="Seconds between looks.")]


@app.command()
@command
def start(
    service: Service,
    version: Annotated[str, typer.Option(help="Version or alias; the one that is wanted when not given.")] = "",
    predictor: Annotated[str, typer.Option(help="Entry point that serves it, a path in the project.")] = "",
    problem: Annotated[str, typer.Option(help="Whose model it serves: makes a service that does not exist yet.")] = "",
    as_json: Json = False,
) -> None:
    """Says which version is wanted, served how; the controller rolls it out."""
    from serinus.wiring.rollout_start import want

    asked = want(open_project(), ServiceRef.parse(service), version, predictor, problem)
    if as_json:
        show_json({"revision": asked.revision.name, "rollout": asked.rollout})
        return
    out.print(f"wanted: {asked.revision.name}, rollout {asked.rollout}")
    err.print(f"[dim]`serinus rollout run {service}` (or a replay with --rollouts) carries it out[/]")


@app.command()
@command
def run(
    service: Service,
    interval: Interval = 2.0,
    until_settled: Annotated[bool, typer.Option(help="End when nothing is left to decide.")] = False,
) -> None:
    """Runs the controller of a service here: its arms, its route, its rollouts, until Ctrl-C."""
    from serinus.wiring.evidence import reducer
    from serinus.wiring.rollouts import Hosting, hosted, tick
    from serinus.wiring.services import card_of

    project, ref = open_project(), ServiceRef.parse(service)
    reduce = reducer(project, ref, card_of(project, ref)).reduce
    with hosted(project, ref, Hosting()) as host, Live(console=err, auto_refresh=False) as live:
        while True:
            found = tick(host, reduce, time.time)
            if isinstance(found, SerinusError):
                live.console.print(f"this tick failed, the next one tries again: {found.headline} {found.cause}")
            else:
                shown = [rollout_view.standing(host.rollouts, found), *_unsynced(found.registry)]
                live.update(Group(*shown), refresh=True)
            if until_settled and host.controller.settled():
                return
            time.sleep(interval)


@app.command()
@command
def plan(
    service: Service,
    effect: Annotated[list[str] | None, typer.Option(help="Assumed change of a KPI: hits_at_10=0.04.")] = None,
    as_json: Json = False,
) -> None:
    """How many units, requests and days each KPI will take by step, from what the service has measured so far."""
    from serinus.wiring.rollout_plan import plan_rollout

    found = plan_rollout(open_project(), ServiceRef.parse(service), _effects(effect or []))
    if as_json:
        rows = [one.model_dump(mode="json") for one in found.rows]
        show_json({"revision": found.revision, "requests": found.requests, "rows": rows})
        return
    out.print(rollout_view.planned(found.rows))
    err.print(f"[dim]from {found.requests} requests that {found.revision} answered; effects not given are none[/]")


def _effects(given: list[str]) -> dict[str, float]:
    hint = "--effect hits_at_10=0.04 for four per cent more"
    try:
        found = {name: float(value) for name, _, value in (one.partition("=") for one in given)}
    except ValueError as fault:
        raise UsageError("an effect is KPI=CHANGE", cause=str(fault), hint=hint) from fault
    wrong = [f"{name}={value}" for name, value in found.items() if not -1 < value < float("inf")]
    if wrong:
        raise UsageError("an effect is a change above -1, relative to what is", cause=", ".join(wrong), hint=hint)
    return found


@app.command()
@command
def get(service: Service, name: Name = "", as_json: Json = False) -> None:
    """A rollout as it is now."""
    store, state = newest(service, name)
    spec = store.spec(state.name)
    registry = _registry(spec.service)
    if as_json:
        told = registry.model_dump(mode="json") if registry else None
        of = _replayed(spec)
        document = {"spec": spec.model_dump(mode="json"), "state": state.model_dump(mode="json"), "registry": told}
        played = of.model_dump(mode="json") if of else None
        show_json(document | {"warnings": _warned(spec), "replayed": played})
        return
    out.print(_shown(spec, state, _expected(spec.service)))
    for version, text in _warned(spec).items():
        out.print(Text(f"version {version} failed warnings: {text}", style="yellow"), soft_wrap=True)
    for line in _unsynced(registry):
        out.print(line, soft_wrap=True)


def _warned(spec: RolloutSpec) -> dict[int, str]:
    """The failed warnings of both versions, of those that have any."""
    from serinus.wiring.warned import failed_warnings

    project, models = open_project(), dict.fromkeys((spec.candidate.model, spec.stable.model))
    return {one.version: text for one in models if (text := failed_warnings(project, one.name, one.version))}


def _shown(spec: RolloutSpec, state: RolloutState, expected: rollout_view.Expected) -> RenderableType:
    return rollout_view.rollout(spec, state, expected, _replayed(spec))


def _replayed(spec: RolloutSpec) -> Replayed | None:
    from serinus.wiring.replayed import replayed
    from serinus.wiring.services import places

    return replayed(places(open_project(), spec.service).rollouts).get(spec.name)


def _registry(service: ServiceRef) -> Synced | None:
    from serinus.wiring.services import synced

    return synced(open_project(), service)


def _unsynced(found: Synced | None) -> list[Text]:
    """What the registry does not say of what serves, and the way out or why it need not; nothing while it does."""
    if found is None or found.holds:
        return [Text(f"registry: {found.reason}", style="dim")] if found and found.reason else []
    hint = [Text(f"  hint: {found.hint}", style="dim")] if found.hint else []
    return [Text(f"registry: champion is not {found.revision}: {found.reason}", style="yellow"), *hint]


@app.command()
@command
def watch(service: Service, name: Name = "", interval: Interval = 1.0, as_json: Json = False) -> int:
    """The same, live, until it has ended; exit code 0 when promoted, else 1. With --json only the end."""
    store, state = newest(service, name)
    spec = store.spec(state.name)
    expected = {} if as_json else _expected(spec.service)
    with nullcontext() if as_json else Live(console=out, auto_refresh=False) as live:
        while not (state := store.state(spec.name)).phase.ended:
            if live is not None:
                live.update(_shown(spec, state, expected), refresh=True)
            time.sleep(interval)
        if live is not None:
            live.update(_shown(spec, state, expected), refresh=True)
    if as_json:
        show_json(state.model_dump(mode="json"))
    return 0 if state.phase is Phase.PROMOTED else 1


def _expected(service: ServiceRef) -> rollout_view.Expected:
    from serinus.wiring.rollout_plan import expected_units

    return expected_units(open_project(), service)


@app.command()
@command
def history(service: Service, name: Name = "", as_json: Json = False) -> None:
    """Every decision of a rollout with its evidence; without a name, all rollouts first."""
    store, state = newest(service, name)
    if as_json:
        entries = [one.model_dump(mode="json") for one in state.history]
        show_json({"rollout": state.name, "phase": state.phase, "reason": state.reason, "log": entries})
        return
    if not name:
        every = [store.state(one) for one in store.names()]
        rows = [(one.name, one.phase, one.decided_by, one.decided_in or "", one.reason) for one in every]
        show_table(f"rollouts of {service}", ("name", "phase", "decided by", "in", "reason"), rows)
    spec = store.spec(state.name)
    for entry in state.history:
        out.print(rollout_view.entry_line(spec, entry), soft_wrap=True, markup=False)


def newest(service: str, name: str) -> tuple[LocalRollouts, RolloutState]:
    """A service's rollout of that name, or its newest, with all of them. Raises `NotFound`."""
    from serinus.wiring.services import rollouts, service_of

    project, ref = open_project(), ServiceRef.parse(service)
    service_of(project, ref)
    store = rollouts(project, ref)
    names = store.names()
    if not names and not name:
        raise NotFound(f"{service} has no rollout yet", hint=f"`serinus rollout start {service} --version N`")
    return store, store.state(name or names[-1])
