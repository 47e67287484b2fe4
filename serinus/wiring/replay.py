"""`serinus replay`: the recording of a problem against a running service, then KPI rows, then the report.

Invariant: the replay's folder holds all it needs to go on after an interruption, and its result when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.card import Problem
from serinus.core.errors import Conflict, NotFound, UsageError
from serinus.evidence.plan import KpiPlan
from serinus.replay.player import Player, Target
from serinus.replay.progress import Progress, Sent
from serinus.replay.recording import read_recording
from serinus.replay.report import ReplayResult, baseline_figures, kpi_figures, latency
from serinus.replay.schedule import Schedule
from serinus.replay.scrape import between, scrape
from serinus.wiring.adapters import feature_clock
from serinus.wiring.evidence import reduce_now
from serinus.wiring.journal import write_atomically
from serinus.wiring.project import Project
from serinus.wiring.serving import service_of
from serinus.wiring.steps.data import recording_folder

RESULT = "result.json"
FLUSH_SECONDS = 5.0


@dataclass(frozen=True)
class ReplayWish:
    """What to replay against what."""

    problem: str
    name: str
    visits: int
    passes: int
    endpoint: str
    collector: str
    concurrency: int = 2
    rate: float = 0.0
    online: str = ""


def replay(project: Project, wish: ReplayWish, *, resume: bool, on_sent: Callable[[Sent, int], None]) -> ReplayResult:
    """Plays what is left, reduces, reports. `on_sent` gets each finished request and how many there are in all.

    Raises `Conflict` for a name that was used, `NotFound` for one to resume that was not, `Unavailable` when predictor
    or collector stop answering: then the replay can be resumed.
    """
    card = project.problem(wish.problem).card
    folder = _folder(project, wish, resume)
    recording = read_recording(recording_folder(project, wish.problem), wish.problem)
    schedule = Schedule(recording, wish.visits, wish.passes, KpiPlan.of(card).longest)
    service = service_of(project, wish.problem)
    target = Target(wish.endpoint, wish.collector, wish.problem, service.salt, wish.concurrency, wish.rate)
    progress = Progress(folder)
    _same_plan(progress, wish)
    before, began = scrape(wish.endpoint), time.perf_counter()
    try:
        player = Player(
            schedule,
            target,
            progress,
            feature_clock(project, wish.problem, wish.online).move_to,
            lambda sent: on_sent(sent, len(schedule)),
        )
        player.play()
    finally:
        progress.close()
    seconds = time.perf_counter() - began
    found = between(before, scrape(wish.endpoint))
    result = _result(project, card, schedule, wish, progress.sent())
    result = result.model_copy(update={"seconds": seconds, "stages": found.stages, "missing": found.missing})
    write_atomically(folder / RESULT, result.model_dump_json(indent=1) + "\n")
    return result


def _result(project: Project, card: Problem, schedule: Schedule, wish: ReplayWish, sent: list[Sent]) -> ReplayResult:
    """Waits a few seconds for exposures that are not flushed yet; what is lost stays lost."""
    answered = sum(one.answered and not one.fault for one in sent)
    deadline = time.monotonic() + FLUSH_SECONDS
    while True:
        counters, rows = reduce_now(project, card, schedule.end)
        rows = {window: _ours(table, schedule, wish.passes) for window, table in rows.items()}
        if all(len(table) >= answered for table in rows.values()) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return ReplayResult(
        name=wish.name,
        visits=len(schedule.recording.requests),
        passes=wish.passes,
        sent=len(sent),
        failed=sum(bool(one.fault) for one in sent),
        seconds=0.0,
        latency_ms=latency(sent),
        kpis=kpi_figures(card, rows),
        baselines=baseline_figures(schedule.recording),
        counters=counters.model_dump(),
        example=_example(schedule),
    )


def _ours(table: pa.Table, schedule: Schedule, passes: int) -> pa.Table:
    """The KPI rows of this replay's requests."""
    asked = schedule.recording.requests["request_id"]
    ids = [f"{one}#{number}" for number in range(1, passes + 1) for one in asked]
    return table.filter(pc.is_in(table["request_id"], value_set=pa.array(ids)))


def _example(schedule: Schedule) -> dict[str, str]:
    """The first request, for `serinus trace`."""
    first = schedule.recording.requests.iloc[0]
    return {"request_id": f"{first['request_id']}#1"}


def _folder(project: Project, wish: ReplayWish, resume: bool) -> Path:
    folder = project.home / "replays" / wish.name
    if resume and not folder.is_dir():
        raise NotFound(f"no replay {wish.name} to resume", hint="a replay's name is shown when it starts")
    if not resume and folder.exists():
        raise Conflict(f"there is a replay {wish.name} already", hint=f"take it up again with --resume {wish.name}")
    return folder


def _same_plan(progress: Progress, wish: ReplayWish) -> None:
    """Visits and passes decide the ids; a resumed replay must keep them."""
    wanted: dict[str, Any] = {key: asdict(wish)[key] for key in ("problem", "visits", "passes")}
    if progress.plan(wanted) != wanted:
        raise UsageError(
            f"replay {wish.name} was started with other visits or passes", cause=str(progress.plan(wanted))
        )
