"""The demo's rollouts: a better version is promoted, and two faulty revisions of it are rolled back.

Invariant: nothing here decides; the demo says what is wanted, sends recorded visits, and tells what came of it beside
what the plan had said.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serinus.core.card import Problem
from serinus.core.metric import at
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Counted
from serinus.core.run import RunRecord
from serinus.core.words import StepKind
from serinus.files import DISK
from serinus.rollout.service import ServiceView
from serinus.wiring.demo_servers import collecting
from serinus.wiring.project import Project
from serinus.wiring.replay import ReplayWish
from serinus.wiring.replayed import replayed
from serinus.wiring.rollout_plan import plan_rollout
from serinus.wiring.rollout_record import rollout_records
from serinus.wiring.rollout_replay import Played, Watchers, replay_rollouts
from serinus.wiring.rollout_start import want
from serinus.wiring.rollouts import Hosted, Hosting, hosted
from serinus.wiring.services import asked, places

# Looks lie on their grid however often somebody asks; a tick costs a pause of the replay.
TICK_EVERY = 50
# All that were recorded, and more passes than any plan says: a replay ends with the verdict, mostly in its first one.
MOST_VISITS, MOST_PASSES = 1_000_000, 25
FAULT_FILE = "FAULT_BEGINS_WITH"
WRONG_ITEM, LOST_CORRECTION = "examples/faults/wrong_item.py", "examples/faults/lost_correction.py"
TOLD = "rollouts.json"


def _nothing(view: ServiceView) -> None:
    """The watcher that does nothing."""


@dataclass(frozen=True)
class _Case:
    """One rollout of the demo: the entry point that serves the wanted version, and the effect its plan assumes."""

    title: str
    predictor: str = ""
    effect: float = 0.0
    on_tick: Callable[[ServiceView], None] = _nothing


@dataclass(frozen=True)
class DemoRollouts:
    """What the demo's rollouts need: the project, the service, and the demo's folder."""

    project: Project
    service: ServiceRef
    card: Problem
    record: RunRecord
    folder: Path

    def run(self) -> dict[str, Any]:
        """All of them, one after the other; facts of the step. What has ended in an earlier try is not repeated."""
        DISK.folder(self.folder)
        begins = self.folder / "fault-begins"
        begins.unlink(missing_ok=True)
        with (
            _environment(FAULT_FILE, str(begins)),
            collecting(self.service, self.folder) as collector,
            hosted(self.project, self.service, Hosting(event_time=True)) as host,
        ):
            for case in self._cases(begins):
                self._one(case, collector, host)
            records = rollout_records(host.rollouts, host.controller.engine.readings, self._counted())
        return {"rollouts": [one.model_dump(mode="json") for one in records]}

    def _cases(self, begins: Path) -> tuple[_Case, ...]:
        return (
            _Case("the chosen version against the linear one", effect=self._gain()),
            _Case("a faulty revision: features of the wrong item", WRONG_ITEM),
            _Case(
                "a faulty revision: a correction that is lost once users see it",
                LOST_CORRECTION,
                on_tick=lambda view: _begin_fault(view, begins),
            ),
        )

    def _gain(self) -> float:
        """How much better the chosen candidate was than the linear one on the validation window."""
        found, metric = self.record.facts("evaluate")["evaluation"], at("hits", self.card.requirements.k)
        hits = {one["name"]: one["validation_metrics"][metric] for one in found["models"]}
        linear = next(one["name"] for one in found["models"] if one["kind"] == "linear")
        return float(hits[found["chosen"]] / hits[linear] - 1)

    def _one(self, case: _Case, collector: str, host: Hosted) -> None:
        service, options = self.service, f" --predictor {case.predictor}" if case.predictor else ""
        new = want(self.project, service, "", case.predictor) if case.predictor else asked(self.project, service)
        _say(f"\n$ serinus rollout start {service.shown}{options}\n{case.title}: {new.rollout}")
        if host.controller.settled():
            return
        goal = next(kpi.name for kpi in self.card.requirements.kpis if kpi.role == "goal")
        plan = plan_rollout(self.project, service, {goal: case.effect})
        half, most = plan.units(goal), plan.units(goal, most=True)
        _say(f"plan, if {goal} differs by {100 * case.effect:+.1f} %: {half} units in half of the runs, {most} in 80 %")
        wish = ReplayWish(service, f"{new.rollout}-{time.time_ns()}", MOST_VISITS, MOST_PASSES, "", collector)
        watchers = Watchers(on_tick=_both(_Lines(), case.on_tick))
        played = replay_rollouts(self.project, wish, host, watchers, every=TICK_EVERY, name=new.rollout)
        self._remember(new.rollout, {"planned": half, "planned_by_step": plan.by_step(goal)}, played)
        records = rollout_records(host.rollouts, host.controller.engine.readings, self._counted())
        told = next(one for one in records if one.name == new.rollout)
        by = f" by {told.decided_by} in {told.decided_in}" if told.decided_by else ""
        _say(
            f"{told.outcome}{by}: planned {half} units, used {told.used_units} of {told.replayed}; "
            f"{played.sent} requests, {played.failed} failed"
        )

    def _remember(self, name: str, planned: dict[str, Any], played: Played) -> None:
        failed = {str(step): count for (rollout, step), count in played.failed_by_step.items() if rollout == name}
        told = self._read() | {name: {**planned, "failed": failed}}
        DISK.replace(self.folder / TOLD, json.dumps(told, indent=1) + "\n")

    def _counted(self) -> Counted:
        told = self._read()
        return Counted(
            failed={(name, int(step)): n for name, one in told.items() for step, n in one["failed"].items()},
            planned={name: one["planned"] for name, one in told.items() if one["planned"]},
            planned_by_step={
                (name, int(step)): n for name, one in told.items() for step, n in one["planned_by_step"].items()
            },
            replayed=replayed(places(self.project, self.service).rollouts),
        )

    def _read(self) -> dict[str, Any]:
        path = self.folder / TOLD
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found


class _Lines:
    """A line when the rollout enters a step or decides."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, view: ServiceView) -> None:
        state = view.rollout
        if state is None:
            return
        for entry in state.log[self._seen :]:
            if entry.event != "look":
                _say(f"  step {entry.step} {entry.verdict}: {entry.reason}")
        self._seen = len(state.log)


def _begin_fault(view: ServiceView, file: Path) -> None:
    """Once users are on the canary."""
    state = view.rollout
    if state is not None and state.steps and state.steps[-1].kind is StepKind.WEIGHT:
        file.touch()


def _both(first: Callable[[ServiceView], None], second: Callable[[ServiceView], None]) -> Callable[[ServiceView], None]:
    def call(view: ServiceView) -> None:
        first(view)
        second(view)

    return call


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """What the arms' processes inherit."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
