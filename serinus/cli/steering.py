"""`serinus rollout pause`, `resume`, `abort`, `approve`, `promote`, `undo`, `retry`: what people ask of rollouts.

Invariant: a person steers by intents alone, each with who asked and why; the controller's next tick takes them up.
"""

from __future__ import annotations

import getpass
from contextlib import suppress
from typing import Annotated, Any

import typer

from serinus.cli.output import Service, command, out, show_json
from serinus.cli.rollout import Json, Name, app, newest
from serinus.core.errors import Conflict, UsageError
from serinus.core.names import ServiceRef
from serinus.core.rollout.memory import is_new
from serinus.core.rollout.spec import Intents, Said
from serinus.core.rollout.state import RolloutState
from serinus.core.words import StepKind
from serinus.rollout.local_store import LocalRollouts
from serinus.wiring.project import open_project

__all__ = ["app"]

By = Annotated[str, typer.Option(help="Who asks; whoever runs this when not given.")]
Reason = Annotated[str, typer.Option(help="Why, for the decision log.")]


@app.command()
@command
def pause(service: Service, name: Name = "", by: By = "", reason: Reason = "", as_json: Json = False) -> None:
    """Decides nothing until it is resumed; traffic stays as it is."""
    _intend(_live(service, name), {"paused": True}, ("paused", _said(by, reason)), as_json)


@app.command()
@command
def resume(service: Service, name: Name = "", by: By = "", reason: Reason = "", as_json: Json = False) -> None:
    """Goes on after a pause, with everything that was seen meanwhile."""
    _intend(_live(service, name), {"paused": False}, ("paused", _said(by, reason)), as_json)


@app.command()
@command
def abort(service: Service, name: Name = "", by: By = "", reason: Reason = "", as_json: Json = False) -> None:
    """Ends a rollout: all traffic goes back to the stable revision."""
    _intend(_live(service, name), {"abort": True}, ("abort", _said(by, reason)), as_json)


@app.command()
@command
def approve(
    service: Service,
    step: Annotated[int, typer.Option(help="Index of the approval step; the one it is in when not given.")] = -1,
    name: Name = "",
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Approves an approval step."""
    store, state = found = _live(service, name)
    at = state.step if step < 0 else step
    steps = store.spec(state.name).policy.steps
    if not 0 <= at < len(steps) or not steps[at].approval:
        approvals = [str(number) for number, one in enumerate(steps) if one.approval]
        raise UsageError(
            f"step {at} of {state.name} is not an {StepKind.APPROVAL} step",
            hint=f"approval steps: {', '.join(approvals) or 'none'}",
        )
    approved = tuple(sorted({*store.intents(state.name).approved, at}))
    _intend(found, {"approved": approved}, (str(at), _said(by, reason)), as_json)


@app.command()
@command
def promote(
    service: Service,
    full: Annotated[bool, typer.Option("--full", help="All traffic at once; nothing is judged.")] = False,
    name: Name = "",
    by: By = "",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Gives the candidate all traffic as soon as it is ready, by hand: in an emergency, with --full."""
    if not full:
        raise UsageError(
            "a rollout promotes by itself, when its KPIs say so",
            hint="--full promotes at once, and is marked as not judged",
        )
    _intend(_live(service, name), {"promote_full": True}, ("promote_full", _said(by, reason)), as_json)


@app.command()
@command
def undo(service: Service, by: By = "", reason: Reason = "", as_json: Json = False) -> None:
    """Takes the last promotion back: the revision before it gets all traffic; what is wanted waits for a new wish."""
    from serinus.wiring.services import rollouts, service_store

    project, ref = open_project(), ServiceRef.parse(service)
    decided = service_store(project, ref).memory().decided
    store = rollouts(project, ref)
    if decided is None or decided.undone or decided.before is None:
        raise Conflict(f"no promotion of {ref.shown} is to be undone", hint="`serinus rollout start` wants a version")
    _intend((store, store.state(decided.rollout)), {"undo": True}, ("undo", _said(by, reason)), as_json)


@app.command()
@command
def retry(service: Service, as_json: Json = False) -> None:
    """Tries a revision again that was rolled back, undecided or aborted: a new rollout with a new seed."""
    from serinus.wiring.adapters import deployer
    from serinus.wiring.services import asked, service_store, wanted

    project, ref = open_project(), ServiceRef.parse(service)
    memory, wish = service_store(project, ref).memory(), wanted(project, ref)
    lives = memory.live is not None and memory.live.candidate == wish.revision
    if lives or is_new(memory, wish) or memory.refusal(wish.revision) is None:
        raise Conflict(f"{asked(project, ref).rollout} has not ended, so there is nothing to retry")
    number = deployer(project).retry(ref)
    name = asked(project, ref).rollout
    show_json({"rollout": name, "retry": number}) if as_json else out.print(f"wanted again: {name}")


def _live(service: str, name: str) -> tuple[LocalRollouts, RolloutState]:
    store, state = newest(service, name)
    if state.phase.ended:
        raise Conflict(f"{state.name} has ended ({state.phase})", hint="`serinus rollout retry` tries it again")
    return store, state


def _said(by: str, reason: str) -> Said:
    with suppress(KeyError, OSError):  # a user without a name
        by = by or getpass.getuser()
    return Said(by=by, reason=reason)


def _intend(
    rollout: tuple[LocalRollouts, RolloutState], changes: dict[str, Any], said: tuple[str, Said], as_json: bool
) -> None:
    store, state = rollout

    def change(intents: Intents) -> Intents:
        return intents.model_copy(update={**changes, "said": {**intents.said, said[0]: said[1]}})

    found: dict[str, Any] = {"rollout": state.name, **store.intend(state.name, change).model_dump(mode="json")}
    show_json(found) if as_json else out.print(f"{state.name}: asked; the controller's next tick takes it up")
