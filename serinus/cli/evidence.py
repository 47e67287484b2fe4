"""`serinus collect|outcomes|replay|kpis|trace`: what happened after a request, and what it says of the service."""

from __future__ import annotations

import json
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from serinus.cli.output import HIGHEST_PORT, command, err, finite, out, show_json, show_table
from serinus.client import Client, Refused, Unreachable
from serinus.core.errors import Unavailable, UsageError
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
# Event times are within these years wherever they come in.
_FIRST_YEAR, _YEAR_AFTER = 1970, 2200
PREDICTOR, COLLECTOR = "http://127.0.0.1:8080", "http://127.0.0.1:8090"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
outcomes_app = typer.Typer(no_args_is_help=True)


@command
def collect(
    problem: str,
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
    run(collect_settings(open_project(), problem, host=host, port=port, accept_event_time=accept_event_time))


@outcomes_app.command()
@command
def send(
    file: Annotated[Path, typer.Argument(help="One JSON object a line; - for standard input.")],
    collector: Annotated[str, typer.Option(help="Address of the collector.")] = COLLECTOR,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Outcomes a request.")] = 500,
    as_json: Json = False,
) -> None:
    """Sends outcomes from a file of JSON lines; sending a file again changes nothing."""
    rows = [_parsed(number, line) for number, line in enumerate(_text_of(file).splitlines(), 1) if line.strip()]
    accepted = 0
    try:
        with Client(collector) as client:
            for start in range(0, len(rows), batch):
                accepted += client.send_outcomes(rows[start : start + batch])
    except Refused as fault:
        kind = UsageError if fault.status < 500 else Unavailable
        raise kind("the collector refused the outcomes", cause=fault.body[:1000]) from fault
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
    problem: str,
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

    if rollouts and resume:
        raise UsageError(
            "--rollouts and --resume exclude each other", hint="start it again: rollouts go on where they were"
        )
    if not _NAME.fullmatch(resume or name or problem):
        raise UsageError(f"{resume or name} cannot name a replay", hint="letters, digits, dots, - and _ only")
    if rollouts and endpoint:
        raise UsageError(
            "--rollouts and --endpoint exclude each other", hint="requests go to the arms that the route names"
        )
    called = resume or name or f"{problem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    wish = ReplayWish(problem, called, visits, passes, endpoint or PREDICTOR, collector, concurrency, rate, online)
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
    from serinus.wiring.rollout_replay import Watchers, replay_rollouts
    from serinus.wiring.rollouts import Hosting, hosted

    with hosted(open_project(), wish.problem, Hosting(event_time=True)) as host, Live(console=err) as live:
        watchers = Watchers(
            on_sent=_FirstFailure(live.console),
            on_tick=lambda view: live.update(rollout_view.standing(host.ports.store, view)),
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
    problem: str,
    as_of: Annotated[str, typer.Option(help="Close what is due at this event time; now when not given.")] = "",
    as_json: Json = False,
) -> None:
    """KPIs of everything that the service answered and that has closed."""
    from serinus.replay.report import kpi_figures
    from serinus.wiring.evidence import reduce_now

    project = open_project()
    card = project.problem(problem).card
    now = _moment(as_of) if as_of else datetime.now(UTC)
    counters, rows = reduce_now(project, card, now)
    figures = kpi_figures(card, rows)
    if as_json:
        show_json({"kpis": [one.model_dump() for one in figures], "counters": counters.model_dump()})
        return
    _show_figures(f"KPIs of {problem}", figures)
    _show_counters(counters.model_dump())


@command
def trace(problem: str, request_id: str, as_json: Json = False) -> None:
    """One request: what was shown by which revision, what came of it, and where its model and features come from."""
    from serinus.wiring.trace import trace_request

    found = trace_request(open_project(), problem, request_id)
    if as_json:
        show_json(found)
        return
    for title, facts in found.items():
        shown = facts if isinstance(facts, list) else [facts]
        for one in shown:
            show_table(title.replace("_", " "), ("what", "value"), [(key, _text(value)) for key, value in one.items()])


def show_result(result: ReplayResult) -> None:
    """The report of a replay, for people."""
    hits = [one for one in result.kpis if one.formula == "hits_at_k"]
    _show_figures(f"{result.visits} visits, {result.passes} pass(es), {result.failed} failed", result.kpis)
    if result.baselines:
        _show_figures("baselines on the same visits (hits among the first 10)", (*hits, *result.baselines))
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
    rows = [
        (one.name, _number(one.estimate), f"{_number(one.low)} to {_number(one.high)}", one.requests, one.clusters)
        for one in figures
    ]
    right = ("estimate", "95 % interval", "requests", "entities")
    show_table(title, ("name", *right), rows, right=right)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _text(value: Any) -> str:  # noqa: ANN401 - any fact
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text_of(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"cannot read {file}", cause=str(fault)) from fault


def _parsed(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line, parse_constant=_no_number)
    except ValueError as fault:
        raise UsageError(f"line {number} is not JSON", cause=str(fault)) from fault
    if not isinstance(found, dict):
        raise UsageError(f"line {number} is not an object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as fault:
        raise UsageError(f"{text} is not a day or time", hint="write 2011-10-03 or 2011-10-03T14:30") from fault
    if not _FIRST_YEAR <= found.year < _YEAR_AFTER:
        raise UsageError(f"{text} is not a time of events", hint=f"years {_FIRST_YEAR} to {_YEAR_AFTER - 1} are")
    return found if found.tzinfo else found.replace(tzinfo=UTC)
