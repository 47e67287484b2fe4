"""Whatever happens in whatever order: no illegal state, nothing forgotten, weights along the policy or back, one end.

Kills are real: what is left is the JSON that was written and the world as it was changed so far.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rollout_world import (
    DAY,
    ERRORS,
    HITS,
    LEVEL,
    READY,
    REVENUE,
    SHADOW,
    SLOW,
    START,
    Killed,
    World,
    reading,
    spec_of,
    starting,
)

from serinus.core.rollout.actions import delayed, done
from serinus.core.rollout.evidence import ArmCondition, Evidence, Readiness, SampleRatio
from serinus.core.rollout.machine import step
from serinus.core.rollout.rules import stage_at
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import Act, RolloutState
from serinus.core.stats.reading import Reading
from serinus.core.words import Phase

ENDS = {phase for phase in Phase if phase.ended}
LEGAL = {
    Phase.QUEUED: {Phase.QUEUED, Phase.DEPLOYING, Phase.ABORTED, Phase.SUPERSEDED},
    Phase.DEPLOYING: {Phase.DEPLOYING, Phase.STEPPING, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED},
    Phase.STEPPING: {Phase.STEPPING, *ENDS},
    **{phase: {phase} for phase in ENDS},
}
POLICIES: tuple[tuple[dict[str, Any], ...], ...] = (
    (SHADOW, {"weight": 50, "min_units": 100}),
    ({"weight": 5}, {"weight": 25, "min_duration": timedelta(minutes=3)}, {"weight": 50}),
    ({"approval": True}, SHADOW, {"weight": 10}, {"bake": timedelta(minutes=5)}, {"approval": True}, {"weight": 90}),
)
ACTS = st.sampled_from(["hold", "promote", "rollback"])


@st.composite
def specs(draw: st.DrawFn) -> RolloutSpec:
    return spec_of(
        *draw(st.sampled_from(POLICIES)),
        kpis=draw(st.sampled_from([(HITS, ERRORS), (HITS, REVENUE, SLOW, LEVEL, ERRORS)])),
        independent_outcomes=draw(st.booleans()),
        hold_back=draw(st.sampled_from([0, 1, 5])),
        on_inconclusive=draw(ACTS),
        on_no_data=draw(ACTS),
        on_supersede=draw(st.sampled_from(["queue", "replace", "reject"])),
        max_duration=timedelta(days=2),
    )


class AnySequence(RuleBasedStateMachine):
    """A log of looks that grows, ticks that see parts of it, intents, sick candidates, kills."""

    @initialize(spec=specs(), ticks=st.sampled_from([0, 1, 2, 2, 2, 2]))
    def begin(self, spec: RolloutSpec, ticks: int) -> None:
        """Queued, deploying, or mostly in its first step already: there most can happen."""
        self.world = World(spec, alive=self._alive)
        self.now, self.kill_at = START, -1
        self.log: list[Reading] = []
        self.intents, self.candidate, self.ratio = Intents(), READY, SampleRatio()
        self.before = self.world.state
        self.ticks: list[tuple[Evidence, Intents, float, dict[Act, str]]] = []
        for _ in range(ticks):
            state = self.world.tick(now=START)
            self.ticks.append((Evidence(candidate=READY), Intents(), START, state.pending))
            self.legal()

    def _alive(self, point: str) -> None:
        self.kill_at -= 1
        if self.kill_at == 0:
            raise Killed(point)

    @precondition(lambda self: self.world.state.step >= 0)
    @rule(data=st.data(), late=st.integers(0, 2), harm=st.sampled_from([False] * 19 + [True]), good=st.booleans())
    def looks_close(self, data: st.DataObject, late: int, harm: bool, good: bool) -> None:
        """One or more looks of the step it is in, or of one that it has left."""
        spec, index = self.world.spec, max(0, self.world.state.step - late)
        for kpi in data.draw(st.lists(st.sampled_from([one.name for one in spec.kpis]), min_size=1, max_size=4)):
            enough = data.draw(st.booleans()) or harm or good
            more = {"harm": harm, "non_inferior": good, "enough": enough, "stage": stage_at(spec, index)}
            self.log.append(reading(len(self.log) + 1, kpi, step=index, at=self.now - late, **more))

    @rule(
        which=st.sampled_from(["pause", "resume", "approve", "withdraw", "supersede", "abort"]), rare=st.integers(0, 4)
    )
    def ask(self, which: str, rare: int) -> None:
        changes = {
            "pause": {"paused": True},
            "resume": {"paused": False},
            "approve": {"approved": tuple(range(6))},
            "withdraw": {"approved": ()},
            "supersede": {"superseded_by": "retail-v3"} if rare == 0 else {},
            "abort": {"abort": True} if rare == 4 else {},
        }
        self.intents = self.intents.model_copy(update=changes[which])

    @rule(sick=st.booleans(), rare=st.integers(0, 2))
    def candidate_changes(self, sick: bool, rare: int) -> None:
        if self.candidate is READY and rare:
            return
        broken = ArmCondition(readiness=Readiness.FAILED, since=self.now, reason="broken")
        self.candidate = (broken if sick else starting(self.now)) if self.candidate is READY else READY

    @rule(rare=st.integers(0, 9))
    def ratio_breaks(self, rare: int) -> None:
        if rare == 0 and self.ratio.crossed_after is None:
            self.ratio = SampleRatio(crossed_after=len(self.log), at=self.now, p_value=0.001)

    @rule(slow=st.sampled_from([True, False, False]))
    def the_gateway_is_slow(self, slow: bool) -> None:
        self.world.delays = slow

    @rule(seconds=st.sampled_from([1, 1, 60, 60, 130, DAY]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), kill=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]), turn=st.sampled_from([True, True, False]))
    def tick(self, data: st.DataObject, kill: int, turn: bool) -> None:
        """Sees any part of the log, in any order, some of it again; may be killed at any point."""
        seen = data.draw(st.sampled_from(["all", "none", "some"]))
        part = self.log if seen == "all" else []
        if seen == "some" and self.log:
            part = data.draw(st.lists(st.sampled_from(self.log), max_size=6))
        self._tick(tuple(part), kill, turn)

    def _tick(self, part: tuple[Reading, ...], kill: int, turn: bool) -> None:
        given = {"ratio": self.ratio, "turn": turn, "candidate": self.candidate}
        evidence = Evidence(readings=part, **given)
        written, self.kill_at = self.world.stored, kill
        try:
            state = self.world.tick(*part, now=self.now, intents=self.intents, **given)
        except Killed:
            state = None
        if self.world.stored != written or state is not None:
            self.ticks.append((evidence, self.intents, self.now, self.world.state.pending))
        if state is not None:
            self._world_is_as_written(state)
            self._a_second_run_changes_nothing(state, evidence)

    def _world_is_as_written(self, state: RolloutState) -> None:
        """All but what waits for a route: that route, and the end of an arm that may still have traffic."""
        world, spec = self.world, self.world.spec
        live = state.phase in (Phase.DEPLOYING, Phase.STEPPING, Phase.PROMOTED)
        waits = Act.ROUTE in state.pending
        assert (spec.candidate.name in world.arms) is (live or (waits and state.started_at is not None))
        assert waits or world.route == state.route
        assert (state.route is not None and state.in_force_at is None) is waits
        assert (world.champion == 2) is (state.phase is Phase.PROMOTED and not waits)
        assert not state.pending or (waits and world.delays)
        assert world.remembered is state.phase.ended

    def _a_second_run_changes_nothing(self, state: RolloutState, evidence: Evidence) -> None:
        if state.phase is Phase.STEPPING and self.before.phase is Phase.STEPPING:
            assert step(self.world.spec, state, evidence, self.intents, self.now)[0] == state

    @rule(shown=st.booleans())
    def a_good_hour(self, shown: bool) -> None:
        """An hour as it mostly is: each KPI is looked at and, often, shown; all is seen, nothing killed."""
        spec, index = self.world.spec, self.world.state.step
        for minute in (0, 10) if index >= 0 else ():
            for kpi in spec.kpis:
                more = {"step": index, "stage": stage_at(spec, index), "non_inferior": shown}
                self.log.append(reading(len(self.log) + 1, kpi.name, at=self.now + 60 * minute, **more))
        self.now += 3600
        self._tick(tuple(self.log), kill=0, turn=True)

    @invariant()
    def legal(self) -> None:
        before, after, steps = self.before, self.world.state, self.world.spec.policy.steps
        assert after.phase in LEGAL[before.phase]
        assert before.step <= after.step < len(steps)
        assert len(after.steps) == after.step + 1
        assert [one.left_at is None for one in after.steps[:-1]] == [False] * max(0, after.step)
        assert after.crossed[: len(before.crossed)] == before.crossed
        assert after.log[: max(0, len(before.log) - 1)] == before.log[:-1]
        assert after.looks >= before.looks
        assert after.frozen >= before.frozen
        assert (after.ended_at is None) is not after.phase.ended
        if before.phase.ended:
            left_over = {"looks", "held_back", "crossed", "log", "pending", "in_force_at"}
            assert after.model_dump(exclude=left_over) == before.model_dump(exclude=left_over)
        self.before = after

    @invariant()
    def weights_move_along_the_policy_or_back(self) -> None:
        spec, state = self.world.spec, self.world.state
        path = [one.weight or 0 for one in spec.policy.steps if not one.approval and not one.bake]
        path = [0, *path] if spec.policy.steps[0].approval else path
        weights = [one.weight for one in self.world.routes]
        if state.phase.ended and weights and self.world.route == state.route:
            last = weights.pop()
            assert last == (100 - spec.policy.hold_back if state.phase is Phase.PROMOTED else 0)
        remaining = iter(path)
        assert all(weight in remaining for weight in weights)

    @invariant()
    def a_promotion_was_earned_or_asked_for(self) -> None:
        spec, state = self.world.spec, self.world.state
        if state.phase is Phase.PROMOTED and state.decided_by:
            shown = {one.kpi for one in state.crossed if one.boundary == "non_inferior" and one.stage == "weights"}
            assert {kpi.name for kpi in spec.kpis if kpi.role == "goal"} <= shown
            assert state.step == len(spec.policy.steps) - 1
        if state.phase is Phase.PROMOTED:
            assert not state.frozen
            assert not [one for one in state.crossed if one.boundary == "harm"]

    def teardown(self) -> None:
        """The ticks that were written, on another machine, without kills: the same end."""
        if not hasattr(self, "world"):
            return
        state = RolloutState.first(self.world.spec)
        for evidence, intents, now, pending in self.ticks:
            state, _ = step(self.world.spec, state, evidence, intents, now)
            for act in state.pending:
                state = delayed(state, act, pending[act]) if act in pending else done(state, act, now)
        assert state == self.world.state


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAnySequence = AnySequence.TestCase
