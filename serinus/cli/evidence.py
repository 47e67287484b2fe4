"""`serinus collect|outcomes|replay|kpis|trace`: what happened after a request, and what it says of the service."""

from __future__ import annotations

import json
import re
import secrets
import sys
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from serinus.cli import rollout_view
from serinus.cli.fitted import Column, columns
from serinus.cli.output import (
    HIGHEST_PORT,
    Service,
    command,
    err,
    finite,
    moment_of,
    out,
    require_name,
    show_json,
    show_table,
)
from serinus.client import Client, Refused, Unreachable
from serinus.core.errors import Unavailable, UsageError
from serinus.core.metric import family_of
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Replayed
from serinus.evidence.divisions import ALONE, By
from serinus.replay.progress import Sent
from serinus.replay.report import Figure, ReplayResult
from serinus.wiring.project import open_project

if TYPE_CHECKING:
    from serinus.wiring.replay import ReplayWish

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


class _Rate(ProgressColumn):
    """Requests a second."""

    def render(self, task: Task) -> Text:
        """Nothing until the first ones are back."""
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


_COLUMNS = (
    TextColumn("requests"),
    BarColumn(),
    MofNCompleteColumn(),
    _Rate(),
    TimeRemainingColumn(),
)
PREDICTOR, COLLECTOR = "http://127.0.0.1:8080", "http://127.0.0.1:8090"
_FIGURES = (
    Column("kpi", (), folds=True),
    Column("estimate", (), right=True),
    Column("95 % interval", (), right=True),
    Column("requests", (), goes=1, right=True),
    Column("entities", (), goes=2, right=True),
)
_MOST_FAULTS = 10
outcomes_app = typer.Typer(no_args_is_help=True)


@command
def collect(
    service: Service,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=HIGHEST_PORT, help="HTTP port.")] = 8090,
    accept_event_time: Annotated[
        bool, typer.Option("--accept-event-time", help="An outcome arrives when it happened: for replays only.")
    ] = False,
) -> None:
    """Takes outcomes over HTTP into the service's event log, until SIGTERM or Ctrl-C."""
    from serinus.wiring.collect import collect as run
    from serinus.wiring.process import log_to_stderr
    from serinus.wiring.serving import collect_settings

    log_to_stderr()
    ref = ServiceRef.parse(service)
    run(collect_settings(open_project(), ref, host=host, port=port, accept_event_time=accept_event_time))


@outcomes_app.command()
@command
def send(
    file: Annotated[Path, typer.Argument(help="One JSON object a line; - for standard input.")],
    collector: Annotated[str, typer.Option(help="Address of the collector.")] = COLLECTOR,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Outcomes a request.")] = 500,
    as_json: Json = False,
) -> None:
    """Sends outcomes from a file of JSON lines; sending a file again changes nothing."""
    lines = _text_of(file).splitlines()
    rows = [(number, _parsed(number, line)) for number, line in enumerate(lines, 1) if line.strip()]
    accepted, start = 0, 0
    try:
        with Client(collector) as client:
            for start in range(0, len(rows), batch):
                accepted += client.send_outcomes([row for _, row in rows[start : start + batch]])
    except Refused as fault:
        told = f"; {start} outcomes before them were taken" if start else ""
        at = [number for number, _ in rows[start : start + batch]]
        kind = UsageError if fault.status < 500 else Unavailable
        raise kind(f"the collector refused outcomes{told}", cause=_at_lines(fault.body, at)) from fault
    except Unreachable as fault:
        raise Unavailable(str(fault), hint="`serinus collect` starts a collector") from fault
    except ValueError as fault:
        raise UsageError("that cannot be sent", cause=str(fault)) from fault
    if as_json:
        show_json({"sent": len(rows), "accepted": accepted})
    else:
        out.print(f"{len(rows)} outcomes sent, {accepted} of them new")


@command
def replay(
    service: Service,
    visits: Annotated[int, typer.Option(min=1, help="Recorded requests, from the first one on.")] = 300,
    passes: Annotated[int, typer.Option(min=1, help="How often; each pass has units of its own.")] = 1,
    endpoint: Annotated[str, typer.Option(help="Predictor or gateway; http://127.0.0.1:8080 when not given.")] = "",
    collector: Annotated[str, typer.Option(help="Collector of outcomes.")] = COLLECTOR,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests under way at once.")] = 2,
    rate: Annotated[
        float, typer.Option(min=0, callback=finite, help="Requests a second at most; 0 for as fast as it goes.")
    ] = 0.0,
    online: Annotated[str, typer.Option(help="Online store to move; that of Feast's configuration.")] = "",
    name: Annotated[str, typer.Option(help="Name of the replay; made from the time when not given.")] = "",
    resume: Annotated[str, typer.Option(help="Name of an interrupted replay to take up again.")] = "",
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Through the service's route, with its rollouts deciding as it goes.")
    ] = False,
    tick_every: Annotated[int, typer.Option(min=1, help="Requests between ticks of the rollouts.")] = 50,
    as_json: Json = False,
) -> int:
    """Replays recorded requests against a running service, with their real outcomes; exit code 1 when one failed."""
    from serinus.wiring.replay import ReplayWish
    from serinus.wiring.replay import replay as play

    ref = ServiceRef.parse(service)
    if rollouts and resume:
        raise UsageError(
            "--rollouts and --resume exclude each other", hint="start it again: rollouts go on where they were"
        )
    require_name("a replay", resume or name or ref.name)
    if rollouts and endpoint:
        raise UsageError(
            "--rollouts and --endpoint exclude each other", hint="requests go to the arms that the route names"
        )
    called = resume or name or f"{ref.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    wish = ReplayWish(ref, called, visits, passes, endpoint or PREDICTOR, collector, concurrency, rate, online)
    if rollouts:
        return _through_rollouts(wish, tick_every, as_json)
    err.print(f"replay {called} (interrupted? add --resume {called})", soft_wrap=True)
    with Progress(*_COLUMNS, console=err, transient=True) as bar:
        task, failure = bar.add_task("requests", total=None), _FirstFailure(bar.console)

        def sent(one: Sent, total: int) -> None:
            failure(one)
            bar.update(task, advance=1, total=total)

        result = play(open_project(), wish, resume=bool(resume), on_sent=sent)
    if as_json:
        show_json(result.model_dump())
    else:
        show_result(result)
    return 1 if result.failed else 0


class _FirstFailure:
    """Says why the first request failed, when it does: the figures at the end only say how many did."""

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, False

    def __call__(self, one: Sent) -> None:
        """Of every finished request, from the threads that send."""
        if one.fault and not self._told:
            self._told = True
            self._console.print(f"a request failed: {escape(one.fault)}", style="yellow", soft_wrap=True)


def _through_rollouts(wish: ReplayWish, every: int, as_json: bool) -> int:
    """The live view of the service, and at the end how it stands."""
    from serinus.wiring.replayed import replayed
    from serinus.wiring.rollout_replay import Watchers, replay_rollouts
    from serinus.wiring.rollouts import Hosting, hosted
    from serinus.wiring.services import places

    with hosted(open_project(), wish.service, Hosting(event_time=True)) as host, Live(console=err) as live:
        folder = places(open_project(), wish.service).rollouts
        watchers = Watchers(
            on_sent=_FirstFailure(live.console),
            on_tick=lambda view: live.update(rollout_view.standing(host.rollouts, view, replayed(folder))),
        )
        played = replay_rollouts(open_project(), wish, host, watchers, every=every)
    if as_json:
        show_json(
            {
                "standing": played.view.standing,
                "stable": played.view.stable.name if played.view.stable else None,
                "rollout": played.view.rollout.name if played.view.rollout else None,
                "phase": played.view.rollout.phase if played.view.rollout else None,
                "sent": played.sent,
                "failed": played.failed,
                "first_failure": played.first_failure,
                "latency_ms": played.latency_ms,
            }
        )
    else:
        out.print(f"{played.sent} requests, {played.failed} failed; {played.view.standing} {played.view.reason}")
    return 1 if played.failed else 0


@command
def kpis(
    service: Service,
    as_of: Annotated[str, typer.Option(help="Close what is due at this event time; now when not given.")] = "",
    since: Annotated[str, typer.Option(help="Requests from this event time on; all when not given.")] = "",
    by: Annotated[list[By] | None, typer.Option(help="Divide further: by step of a rollout, by day (UTC).")] = None,
    as_json: Json = False,
) -> None:
    """KPIs of all answers that have closed, each revision, arm and role (primary, shadow, forced) for itself."""
    from serinus.replay.report import kpi_figures
    from serinus.wiring.evidence import reduce_now
    from serinus.wiring.services import card_of, rollouts

    project, ref = open_project(), ServiceRef.parse(service)
    card = card_of(project, ref)
    now = moment_of(as_of) if as_of else datetime.now(UTC)
    first = moment_of(since).timestamp() if since else float("-inf")
    counters, rows = reduce_now(project, ref, card, now)
    rows = {window: table.filter(pc.greater_equal(table["as_of"], first)) for window, table in rows.items()}
    store = rollouts(project, ref)
    figures = kpi_figures(card, rows, [(store.spec(name), store.state(name)) for name in store.names()], by or ())
    if as_json:
        show_json({"kpis": [one.model_dump() for one in figures], "counters": counters.model_dump()})
        return
    _show_figures(f"KPIs of {ref.shown}", figures)
    _show_counters(counters.model_dump())


@command
def trace(service: Service, request_id: str, as_json: Json = False) -> None:
    """One request: what was shown by which revision, what came of it, and where its model and features come from."""
    from serinus.wiring.trace import trace_request

    found = trace_request(open_project(), ServiceRef.parse(service), request_id)
    if as_json:
        show_json(found)
        return
    for title, facts in found.items():
        shown = facts if isinstance(facts, list) else [facts]
        for one in shown:
            show_table(title.replace("_", " "), ("what", "value"), [(key, _text(value)) for key, value in one.items()])


def show_result(result: ReplayResult) -> None:
    """The report of a replay, for people."""
    played = Replayed(visits=result.visits, passes=result.passes)
    _show_figures(f"{played}; {result.failed} failed", result.kpis)
    if played.flag:
        out.print(f"! {played.flag}", style="yellow", soft_wrap=True)
    if result.baselines:
        metric = result.baselines[0].metric
        same = [one for one in result.kpis if one.metric == metric]
        title = f"baselines on the same visits (hits among the first {family_of(metric)[1]})"
        _show_figures(title, (*same, *result.baselines))
    times, stages = result.latency_ms, ", ".join(f"{one.name} {one.mean_ms:.2f}" for one in result.stages)
    if times:
        rate = result.sent / result.seconds if result.seconds else 0.0
        out.print(f"latency p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms; {rate:.0f} requests a second")
    if stages:
        out.print(f"mean ms by stage: {stages}", soft_wrap=True)
    _show_counters(result.counters)
    out.print(result.note, style="dim", soft_wrap=True)


def _show_counters(counters: dict[str, int]) -> None:
    """What the log holds and what was not used of it: late, orphaned, repeated, lost."""
    out.print("event log: " + ", ".join(f"{value:,} {name}" for name, value in counters.items() if value), style="dim")


def _show_figures(title: str, figures: tuple[Figure, ...]) -> None:
    """A table a division."""
    out.print(f"[bold]{escape(title)}[/]")
    for division, found in groupby(figures, key=_division):
        if division:
            out.print(division)
        out.print(columns(_FIGURES, [_figure(one) for one in found]))


def _division(one: Figure) -> str:
    named = " ".join((one.revision, "" if one.arm == ALONE else one.arm, "" if one.role == "primary" else one.role))
    where = (f"step {one.step}" if one.step else "", one.day)
    return ", ".join(filter(None, (" ".join(named.split()), *where)))


def _figure(one: Figure) -> tuple[str, ...]:
    interval = "" if one.estimate is None else f"{_number(one.low, '-∞')} to {_number(one.high, '∞')}"
    return one.name, _number(one.estimate), interval, f"{one.requests:,}", f"{one.clusters:,}"


def _number(value: float | None, none: str = "-") -> str:
    return none if value is None else f"{value:.4g}"


def _text(value: Any) -> str:  # noqa: ANN401 - any fact
    parts = [f"{name} {one:g}" for name, one in value.items()] if isinstance(value, dict) else value
    return ", ".join(map(str, parts)) if isinstance(parts, list) else str(value)


def _text_of(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"cannot read {file}", cause=str(fault)) from fault


def _parsed(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"line {number} is not JSON", cause=str(fault)) from fault
    if not isinstance(found, dict):
        raise UsageError(f"line {number} is not an object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _at_lines(body: str, numbers: list[int]) -> str:
    """What a collector refused, by the lines of the file that the batch is of; an answer of another form as it is."""
    try:
        faults = [(str(one["field"]), str(one["problem"])) for one in json.loads(body)["fields"]]
    except (ValueError, KeyError, TypeError):
        return body[:1000]
    return "\n".join(f"{_at_line(field, numbers)}: {problem}" for field, problem in faults[:_MOST_FAULTS])


def _at_line(field: str, numbers: list[int]) -> str:
    place = re.match(r"outcomes\[(\d+)\]\.?", field)
    if place is None or int(place[1]) >= len(numbers):
        return field
    return " ".join(filter(None, (f"line {numbers[int(place[1])]}", field[place.end() :])))
