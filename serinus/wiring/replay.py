"""`serinus replay`: what was recorded of a problem against a running service of it, then KPI rows, then the report.

Invariant: the replay's folder holds all it needs to go on after an interruption, and its result when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.card import Problem
from serinus.core.errors import Conflict, NotFound, UsageError
from serinus.core.names import ServiceRef
from serinus.evidence.plan import KpiPlan
from serinus.files import DISK
from serinus.replay.player import Player, Target
from serinus.replay.progress import Progress, Sent
from serinus.replay.recording import read_recording
from serinus.replay.report import ReplayResult, baseline_figures, kpi_figures, latency
from serinus.replay.schedule import Plan, Schedule
from serinus.replay.scrape import between, scrape
from serinus.rollout.local_store import read_document
from serinus.wiring.adapters import feature_clock
from serinus.wiring.evidence import reduce_now
from serinus.wiring.project import Project
from serinus.wiring.services import service_of
from serinus.wiring.shared import recordings
from serinus.wiring.steps.data import recording_folder

REPLAYS, PLAN, RESULT = "replays", "plan.json", "result.json"
FLUSH_SECONDS = 5.0


@dataclass(frozen=True)
class ReplayWish:
    """What to replay against what."""

    service: ServiceRef
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
    service = service_of(project, wish.service)
    card = project.problem(service.problem).card
    recording = read_recording(recording_folder(project, card.name), card.name)
    folder = project.home / REPLAYS / wish.name
    plan = plan_of(folder, wish, resume, _recorded(project, card.name))
    schedule = Schedule(recording, plan, KpiPlan.of(card).longest)
    target = Target(wish.endpoint, wish.collector, service.ref.name, service.salt, wish.concurrency, wish.rate)
    move_clock = feature_clock(project, card.name, wish.online).move_to
    progress = Progress(folder)
    before, began = scrape(wish.endpoint), time.perf_counter()
    try:
        Player(schedule, target, progress, move_clock, lambda sent: on_sent(sent, len(schedule))).play()
    finally:
        progress.close()
    seconds = time.perf_counter() - began
    found = between(before, scrape(wish.endpoint))
    result = _result(project, wish, card, schedule, progress.sent())
    result = result.model_copy(update={"seconds": seconds, "stages": found.stages, "missing": found.missing})
    DISK.replace(folder / RESULT, result.model_dump_json(indent=1) + "\n")
    return result


def _recorded(project: Project, problem: str) -> str:
    by = recordings(project.home, problem).written_by()
    return f"run {by.run}, data {by.snapshot_hash[:12]}" if by else ""


def plan_of(folder: Path, wish: ReplayWish, resume: bool, recorded: str) -> Plan:
    """The plan of a replay that is resumed, or a new one."""
    path = folder / PLAN
    if resume and not path.exists():
        raise NotFound(f"no replay {wish.name} to resume", hint="a replay's name is shown when it starts")
    if resume:
        known = read_document(path, Plan)
        if (known.service, known.visits, known.passes) != (wish.service, wish.visits, wish.passes):
            told = f"{known.service.shown}, {known.visits} visits, {known.passes} passes"
            raise UsageError(f"replay {wish.name} was started as another one", cause=told)
        if known.recorded != recorded:
            raise Conflict(
                f"the requests that replay {wish.name} began with are no longer there",
                cause=f"it began with those of {known.recorded or 'a run unknown'}; now there are those of {recorded}",
                hint="start a replay of its own with --name",
            )
        return known
    return new_plan(folder, wish, recorded)


def new_plan(folder: Path, wish: ReplayWish, recorded: str = "") -> Plan:
    """A plan whose passes no other replay of the service has used. Raises `Conflict` for a name that was used."""
    path = folder / PLAN
    if any(not one.name.startswith(".") for one in folder.glob("*")):
        raise Conflict(f"there is a replay {wish.name} already", hint=f"take it up again with --resume {wish.name}")
    plans = [read_document(one, Plan) for one in folder.parent.glob(f"*/{PLAN}")]
    used = [one.first_pass + one.passes for one in plans if one.service == wish.service]
    first = max(used, default=1)
    plan = Plan(service=wish.service, visits=wish.visits, passes=wish.passes, first_pass=first, recorded=recorded)
    DISK.replace(path, plan.model_dump_json(indent=1) + "\n")
    return plan


def _result(project: Project, wish: ReplayWish, card: Problem, schedule: Schedule, sent: list[Sent]) -> ReplayResult:
    """Waits a few seconds for exposures that are not flushed yet; what is lost stays lost."""
    answered = sum(one.answered and not one.fault for one in sent)
    ids = pa.array(schedule.request_ids())
    deadline = time.monotonic() + FLUSH_SECONDS
    while True:
        counters, rows = reduce_now(project, wish.service, card, schedule.end)
        rows = {w: table.filter(pc.is_in(table["request_id"], value_set=ids)) for w, table in rows.items()}
        if all(len(table) >= answered for table in rows.values()) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return ReplayResult(
        name=wish.name,
        visits=len(schedule.recording.requests),
        passes=len(schedule.passes),
        sent=len(sent),
        failed=sum(bool(one.fault) for one in sent),
        seconds=0.0,
        latency_ms=latency(sent),
        kpis=kpi_figures(card, rows),
        baselines=baseline_figures(schedule.recording, card.requirements.k),
        counters=counters.model_dump(),
        example=schedule.request_ids()[0],
    )
