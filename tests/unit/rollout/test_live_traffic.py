"""Rollouts under traffic that never stops: what arrives between a decision and its route is nobody's evidence.

New units come at every second, in every gap, and after every kill; evidence, judge and engine are the real ones.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))
from fakes import ONE, START, TWO, Arms, Killed, Store, World
from kpi_rows import COVARIATES, ERRORS, HITS, numbered, row, table_of

from serinus.client import bucket_of
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.ports import Applied, InForce, Pending
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Arm, Phase
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.source import KpiEvidence
from serinus.rollout.engine import Engine, Ports, sample_ratio

PLAN = KpiPlan(True, "bought", by_unit=False, groups=(Group(0.0, (HITS, ERRORS)),))
STEPS = ({"weight": 5, "min_units": 400}, {"weight": 50, "min_units": 400})
RATE = 50


@dataclass
class Live:
    """A service whose route comes into force `lag` seconds after it was asked for; time goes by a second at a time."""

    lag: float
    world: World = field(default_factory=lambda: World(policy={"steps": STEPS, "max_duration": timedelta(days=1)}))
    asked: list[tuple[float, Route]] = field(default_factory=list)
    seconds: list[pa.Table] = field(default_factory=list)
    spec: RolloutSpec = field(init=False)

    def __post_init__(self) -> None:
        made = self.world.make(Wanted(TWO, ONE), ONE)
        self.spec = made.model_copy(update={"kpis": (HITS, ERRORS), "independent_outcomes": False})
        Store(self.world).create(self.spec)
        self.world.arms[ONE.name] = 1

    def engine(self) -> Engine:
        """A new process."""
        evidence = KpiEvidence(self, PLAN, COVARIATES, now=lambda: self.world.now)
        return Engine(Ports(Arms(self.world), self, evidence, Store(self.world)), lambda: self.world.now)

    def apply(self, route: Route) -> Applied:
        """See `Splitter`."""

        def ask() -> Applied:
            if not self.asked or self.asked[-1][1] != route:
                self.asked.append((self.world.now + self.lag, route))
            begins = self.asked[-1][0]
            return InForce(begins) if begins <= self.world.now else Pending("not taken up yet")

        found: Applied = self.world.called(ask)
        return found

    def second(self) -> None:
        """New units only, answered by the route that is in force; both arms are as good."""
        rows, place = [], len(self.seconds)
        for number in range(RATE):
            at, unit = self.world.now + number / RATE, f"u{place}-{number}"
            rows.append(self._answered(unit, at) | {"window": 0.0, "closed_at": self.world.now + 1.0})
        self.seconds.append(table_of(rows))
        self.world.now += 1.0

    def _answered(self, unit: str, at: float) -> dict[str, Any]:
        route = next((one for begins, one in reversed(self.asked) if begins <= at), None)
        theirs = route is not None and route.canary and route.assigned(bucket_of("ab", unit)) is Arm.CANARY
        hits = float(np.random.default_rng(bucket_of("x", unit)).poisson(3))
        return row(f"r{unit}", unit, TWO.name if theirs else ONE.name, at, hits=hits)

    def closed_after(self, generation: int) -> pa.Table:
        """See `KpiReducer`."""
        return numbered(dict(enumerate(self.seconds[generation:], generation + 1)), table_of([]))

    def end(self, seconds: int = 200) -> RolloutState:
        """The state when it has ended, or after so long."""
        engine = self.engine()
        for _ in range(seconds):
            state = engine.tick(TWO.name)
            if state.phase.ended:
                break
            self.second()
        return self.world.state(TWO.name)


def _as_if_routed_at_once(state: RolloutState) -> RolloutState:
    steps = tuple(one.model_copy(update={"in_force_at": one.entered_at}) for one in state.steps)
    return state.changed(steps=steps)


def test_a_route_that_comes_five_seconds_late_freezes_nothing() -> None:
    live = Live(lag=5.0)
    state = live.end()
    assert (state.phase, state.frozen) == (Phase.PROMOTED, False)
    assert [one.in_force_at - one.entered_at for one in state.steps] == [5.0, 5.0]
    # Of each gap all but what the predictors' clock may have wrong.
    assert state.unjudged["between routes"] == pytest.approx(2 * 5 * RATE, abs=RATE)
    assert sum(one.units for one in state.steps) >= 800
    # The same traffic, counted as the new step's, is what froze it.
    wrong = _as_if_routed_at_once(state)
    evidence = KpiEvidence(live, PLAN, COVARIATES, now=lambda: live.world.now)  # type: ignore[arg-type]
    assert sample_ratio(wrong, evidence.read(live.spec, wrong)).crossed_after is not None
    assert sample_ratio(state, evidence.read(live.spec, state)).crossed_after is None


@pytest.mark.parametrize("kill_after", [False, True], ids=["before", "after"])
def test_a_kill_with_units_arriving_meanwhile_freezes_nothing(kill_after: bool) -> None:
    """A minute goes by without an engine after each call of a port in the ticks that change the step."""
    for number in _calls_of_changes():
        live = Live(lag=0.0)
        live.world.kill_at, live.world.kill_after = number, kill_after
        with pytest.raises(Killed):
            live.end()
        for _ in range(60):
            live.second()
        state = live.end()
        assert (state.phase, state.frozen) == (Phase.PROMOTED, False), number


def _calls_of_changes() -> list[int]:
    live, found = Live(lag=0.0), list[int]()
    engine, steps = live.engine(), -1
    for _ in range(100):
        before = live.world.calls
        state = engine.tick(TWO.name)
        if state.phase.ended:
            return found
        if state.step > max(steps, 0):
            found += range(before, live.world.calls)
        steps = state.step
        live.second()
    raise AssertionError("it never ended")


def test_an_abort_is_heard_while_a_route_never_comes() -> None:
    live = Live(lag=1e9)
    engine = live.engine()
    for _ in range(9):
        engine.tick(TWO.name)
        live.second()
    assert live.world.state(TWO.name).phase is Phase.STEPPING
    live.world.asked[TWO.name] = Intents(abort=True)
    state = engine.tick(TWO.name)
    assert (state.phase, live.asked[-1][1].canary) == (Phase.ABORTED, "")
    assert live.world.now < START + 10
