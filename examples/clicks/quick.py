"""`make quick`: trains two versions, serves the first, and lets two rollouts decide, beside the truth of the world.

The second version is better and must be promoted; one that loses clicks must be rolled back. Visitors come over HTTP on
the clock of the wall all the while; verdicts are the engine's alone. Exit code 1 when one disagrees with the truth.
Invariant: every start is a new one: what an earlier one left is ended and removed first. Interrupted, it stops what it
started.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from examples.clicks import trained
from examples.clicks.traffic import Counted, Shop, visitors
from examples.clicks.truth import Effect, true_effect
from examples.clicks.world import World
from serinus.core.errors import Conflict, SerinusError, Unavailable
from serinus.core.rollout.record import Counted as Told
from serinus.core.rollout.record import RolloutRecord
from serinus.core.run import StepRecord
from serinus.core.words import Phase
from serinus.files import DISK, LockFile, Taken
from serinus.report import write
from serinus.rollout.service import ServiceView
from serinus.wiring.adapters import deployer
from serinus.wiring.demo_servers import collecting
from serinus.wiring.evidence import reducer
from serinus.wiring.journal import Journal
from serinus.wiring.project import Project, open_project
from serinus.wiring.rollout_record import rollout_records
from serinus.wiring.rollout_start import want
from serinus.wiring.rollouts import Hosted, Hosting, hosted, tick
from serinus.wiring.services import places

ROOT = Path(__file__).parent
PROBLEM, SERVICE, RUN = trained.PROBLEM, trained.SERVICE, "quick"
TICK_SECONDS = 0.5
# Far longer than a rollout takes: the command ends, whatever happens.
MOST_SECONDS = 900.0
# A version is worth a promotion, or must not stay.
EXPECTED = {"better": Phase.PROMOTED} | dict.fromkeys(
    ("slightly_worse", "worse", "halved", "slow", "failing"), Phase.ROLLED_BACK
)
VERSIONS = ("better", "worse")


def agrees(name: str, outcome: Phase) -> bool:
    """Whether a verdict is that of the truth; of a version as good as the other, all but a rollback."""
    expected = EXPECTED.get(name)
    return outcome is not Phase.ROLLED_BACK if expected is None else outcome is expected


@dataclass
class Quick:
    """One start: where it writes, and what it has found out."""

    folder: Path
    project: Project
    started: float
    world: World = field(default_factory=World)
    truths: dict[str, Effect] = field(default_factory=dict)
    counted: dict[str, Counted] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        """Of the pipeline's run; the rollouts are a step of it."""
        return Journal(self.project.home, PROBLEM, RUN)


def run(names: Sequence[str], started: float) -> int:
    """The exit code: 1 when a verdict disagrees with the truth. `started`: epoch seconds."""
    folder = Path(os.environ.get("SERINUS_HOME", ".serinus")).absolute() / "quick"
    try:
        with _alone(folder):
            quick = Quick(folder, fresh(folder), started)
            _train(quick)
            return _told(quick, _rolled_out(quick, names))
    except SerinusError as fault:
        sys.stderr.write("\n".join(part for part in (fault.headline, fault.cause, fault.hint) if part) + "\n")
        return fault.exit_code


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with LockFile(folder / ".lock") as lock:
        try:
            lock.take(patience=0)
        except Taken as fault:
            raise Conflict("another `make quick` runs", hint="wait for its end, or stop it") from fault
        yield


def fresh(folder: Path) -> Project:
    """The shop's project with an empty home; predictors that a killed start left are ended first."""
    home = folder / "home"
    # The environment of every process that is started here, and of the commands that look at it later.
    os.environ.update(SERINUS_PROJECT=str(ROOT), SERINUS_HOME=str(home))
    project = open_project()
    if SERVICE in deployer(project).known():
        with hosted(project, SERVICE, Hosting()):
            pass
    for path in folder.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return project


def history() -> str:
    """The command that tells every decision, whole: its reader stands in another project."""
    where = " ".join(f"{name}={os.environ[name]}" for name in ("SERINUS_PROJECT", "SERINUS_HOME"))
    return f"{where} serinus rollout history {PROBLEM}"


def _train(quick: Quick) -> None:
    """The whole pipeline. Raises what its first failed step recorded."""
    from examples.clicks.forked import train

    _say(f"the shop's log becomes two versions: `serinus pipeline run {PROBLEM} --register linear,gbdt`")
    shown: set[str] = set()

    def on_event(_: str, state: str) -> None:
        if state != "started":
            for one in quick.journal.read().steps:
                if one.name not in shown:
                    shown.add(one.name)
                    _say(f"  {'✓' if one.status == 'ok' else '✗'} {one.name:<18} {one.seconds:5.1f} s")

    train(quick.project, PROBLEM, RUN, "linear,gbdt", on_event)


def _rolled_out(quick: Quick, names: Sequence[str]) -> tuple[RolloutRecord, ...]:
    """Visitors come while one version after the other is rolled out; the records, in that order."""
    project = quick.project
    began = time.perf_counter()
    with hosted(project, SERVICE, Hosting()) as host:
        ticker = _Ticker(host, reducer(project, SERVICE, project.problem(PROBLEM).card).reduce)
        ticker.tick()  # the first predictor starts while the collector does
        with collecting(SERVICE, quick.folder, event_time=False) as collector:
            ticker.until_serving()
            for number, name in enumerate(names):
                _one(quick, name, number, ticker, Shop(places(project, SERVICE).route, collector))
        records = rollout_records(host.rollouts, host.controller.engine.readings, Told())
    _record(quick, records, time.perf_counter() - began)
    return records


def _one(quick: Quick, name: str, number: int, ticker: _Ticker, shop: Shop) -> None:
    """One version, until its rollout has ended."""
    stable = ticker.host.controller.stable()
    assert stable is not None  # noqa: S101 - it serves
    wanted = want(quick.project, SERVICE, "", trained.entry_point("" if name == "better" else name))
    _say(f"\n{name}: {wanted.rollout} against {stable.name}")
    ticker.tick()  # its predictor starts while the truth is computed
    found = trained.load(quick.project)
    of = trained.served(found, wanted.revision, "" if name == "better" else name)
    quick.truths[name] = true_effect(quick.world, of, trained.served(found, stable))
    with visitors(quick.world, shop, first=number * 1_000_000) as counted:
        quick.counted[name] = counted
        ticker.until_ended(wanted.rollout, counted)


@dataclass
class _Ticker:
    """The controller's loop, on the clock of the wall."""

    host: Hosted
    reduce: Any
    seen: int = 0

    def tick(self) -> ServiceView | None:
        """What is away now is asked again by the next one."""
        time.sleep(TICK_SECONDS)
        view = tick(self.host, self.reduce, time.time)
        return None if isinstance(view, SerinusError) else view

    def until_serving(self) -> None:
        """The first version answers. Raises `Unavailable` when it does not."""
        deadline = time.monotonic() + MOST_SECONDS
        while self.host.controller.stable() is None:
            view = self.tick()
            if time.monotonic() > deadline:
                raise Unavailable("the first version does not come up", cause=view.reason if view else "")

    def until_ended(self, name: str, counted: Counted) -> None:
        """Raises `Unavailable` when it takes too long, or no visitor is left."""
        deadline, self.seen = time.monotonic() + MOST_SECONDS, 0
        while True:
            view = self.tick()
            self._tell(view)
            if name in self.host.rollouts.names() and self.host.rollouts.state(name).phase.ended:
                return
            if counted.broken:
                raise Unavailable("visitors get no answer", cause=counted.broken[0])
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} does not come to an end", hint=f"`{history()}` says why")

    def _tell(self, view: ServiceView | None) -> None:
        """A line when the rollout enters a step or decides."""
        if view is None or view.rollout is None:
            return
        for entry in view.rollout.log[self.seen :]:
            if entry.event != "look":
                _say(f"  {entry.verdict}: {entry.reason}")
        self.seen = len(view.rollout.log)


def _record(quick: Quick, records: Sequence[RolloutRecord], seconds: float) -> None:
    """The rollouts as a step of the run, for its report."""
    at = datetime.fromtimestamp(time.time() - seconds, UTC)
    facts = {"rollouts": [one.model_dump(mode="json") for one in records]}
    quick.journal.write(StepRecord(name="rollouts", status="ok", started_at=at, seconds=seconds, facts=facts))


def _told(quick: Quick, records: Sequence[RolloutRecord]) -> int:
    """Truth beside verdict, on the screen and in the summary; 1 when they disagree."""
    card = quick.project.problem(PROBLEM).card
    goal = next(kpi.name for kpi in card.requirements.kpis if kpi.role == "goal")
    rows = [version_row(quick, name, one, goal) for name, one in zip(quick.truths, records, strict=True)]
    write(quick.journal.read(), quick.folder / "report.html", card)
    elapsed = round(time.time() - quick.started, 1)
    document = {"elapsed_s": elapsed, "versions": rows}
    DISK.replace(quick.folder / "summary.json", json.dumps(document, indent=1) + "\n")
    _say(f"\n{'version':<16}{'true effect':>12}  {'measured':<28}{'users':>7}  verdict")
    for row in rows:
        measured = f"{_per_cent(row['estimate'])} ({_per_cent(row['low'])} to {_per_cent(row['high'])})"
        told = f"{row['outcome']} by {row['decided_by']}" + ("" if row["agrees"] else "  DISAGREES")
        _say(f"{row['name']:<16}{_per_cent(row['true_effect']):>12}  {measured:<28}{row['users']:>7}  {told}")
    _say(f"\n{elapsed:.0f} s; report: {quick.folder / 'report.html'}")
    return int(not all(row["agrees"] for row in rows))


def version_row(quick: Quick, name: str, record: RolloutRecord, goal: str) -> dict[str, Any]:
    """One version in the summary; effects are relative to the version that it was rolled out against."""
    truth, kpi = quick.truths[name], next(one for one in record.kpis if one.name == goal)
    return {
        "name": name,
        "true_effect": round(truth.estimate, 4),
        "true_error": round(truth.error, 4),
        "outcome": record.outcome,
        "decided_by": record.decided_by,
        "estimate": kpi.estimate,
        "low": kpi.low,
        "high": kpi.high,
        "users": record.used_units,
        "visits": quick.counted[name].played,
        "agrees": agrees(name, record.outcome),
    }


def _per_cent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f} %"


def _say(line: str) -> None:
    # Not `sys.stdout`: while the pipeline runs, that is the log of its steps.
    assert sys.__stdout__ is not None  # noqa: S101 - a command has one
    sys.__stdout__.write(line + "\n")
    sys.__stdout__.flush()
