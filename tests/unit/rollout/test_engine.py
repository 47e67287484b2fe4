"""One rollout through the engine: the order of a tick, another engine in between, and what is rebuilt after a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes import ONE, START, TWO, Evidence, Splitter, World

from serinus.core.errors import Conflict, Unavailable
from serinus.core.rollout.evidence import SampleRatio
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.ports import Applied, FirstSeen, RolloutEvidence
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import Act, RolloutState, StepRecord
from serinus.core.stats.moments import Cell
from serinus.core.words import Arm, Phase, StepKind
from serinus.rollout.engine import Engine, Ports, sample_ratio


@pytest.fixture
def world() -> World:
    """Version 1 serves and the rollout of version 2 has been made."""
    made = World()
    made.controller().tick()
    made.controller().tick()
    made.wanted = Wanted(TWO, ONE)
    made.specs[TWO.name] = made.make(made.wanted, ONE).model_dump_json()
    made.states[TWO.name] = RolloutState.first(made.make(made.wanted, ONE)).model_dump_json()
    return made


def ports(world: World, **other: Any) -> Ports:
    return Ports(**(world.controller()._ports.__dict__ | other))


def engine(world: World, **other: Any) -> Engine:
    return Engine(ports(world, **other), lambda: world.now)


def until(world: World, one: Engine, reached: Callable[[RolloutState], bool]) -> RolloutState:
    for _ in range(40):
        state = one.tick(TWO.name)
        if reached(state):
            return state
        world.visit()
    raise AssertionError("never reached")


def test_it_begins_only_in_its_turn(world: World) -> None:
    one = engine(world)
    assert one.tick(TWO.name, turn=False).phase is Phase.QUEUED
    assert TWO.name not in world.arms
    assert one.tick(TWO.name).phase is Phase.DEPLOYING
    assert TWO.name in world.arms


def test_a_tick_without_news_writes_nothing(world: World) -> None:
    one = engine(world)
    state = until(world, one, lambda state: state.phase is Phase.STEPPING)
    stored = world.states[TWO.name]
    calls = world.calls
    assert one.tick(TWO.name) == state
    assert world.states[TWO.name] == stored
    assert world.calls == calls + 2  # it read the service and the evidence


def test_of_two_engines_that_decide_at_once_one_decides(world: World) -> None:
    """The other reads, is overtaken, is refused its write, and has done nothing to the world."""
    first = engine(world)
    until(world, first, lambda state: state.phase is Phase.STEPPING)
    world.visit()

    class Overtaken(Evidence):
        """While this one reads, the first engine takes a whole tick."""

        def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
            found = super().read(spec, state)
            first.tick(TWO.name)
            done.append((list(world.routes), dict(world.arms), world.states[TWO.name]))
            return found

    done: list[Any] = []
    second = engine(world, evidence=Overtaken(world))
    with pytest.raises(Conflict):
        second.tick(TWO.name)
    assert done == [(world.routes, world.arms, world.states[TWO.name])]
    assert world.state(TWO.name).looks == 1
    world.visit()
    assert engine(world).tick(TWO.name).looks == 2


def test_a_new_process_reads_every_look_as_the_old_one_did(world: World) -> None:
    old = engine(world)
    state = until(world, old, lambda state: state.phase is Phase.PROMOTED)
    spec = world.make(world.wanted, ONE)
    readings = old.readings(spec, state)
    assert len(readings) == state.looks > 1
    assert engine(world).readings(spec, state) == readings


def test_what_an_action_fails_at_is_done_by_the_next_tick(world: World) -> None:
    """A splitter that is away: the promotion is written, the state says that the rest is due, and nobody is asked."""

    class Away(Splitter):
        """Whatever divides the traffic does not answer."""

        def apply(self, route: Route) -> Applied:
            if route.weight == 99:
                raise Unavailable("the splitter does not answer")
            return super().apply(route)

    broken = engine(world, splitter=Away(world))
    with pytest.raises(Unavailable):
        until(world, broken, lambda state: False)
    state = world.state(TWO.name)
    assert (state.phase, state.pending) == (Phase.PROMOTED, {Act.ROUTE: "the splitter does not answer"})
    assert world.routes[-1].weight == 50
    with pytest.raises(Unavailable):
        broken.tick(TWO.name)
    assert engine(world).tick(TWO.name).pending == {}
    assert world.routes[-1].weight == 99


def test_a_candidate_that_dies_is_started_again_without_a_decision(world: World) -> None:
    one = engine(world)
    until(world, one, lambda state: state.phase is Phase.STEPPING)
    del world.arms[TWO.name]
    one.tick(TWO.name)
    assert TWO.name in world.arms


def test_an_abort_is_obeyed_at_once_and_gives_the_traffic_back(world: World) -> None:
    one = engine(world)
    until(world, one, lambda state: state.step == 1)
    assert world.routes[-1].weight == 50
    world.asked[TWO.name] = Intents(abort=True)
    assert one.tick(TWO.name).phase is Phase.ABORTED
    assert (world.routes[-1].weight, world.routes[-1].canary) == (0, "")
    assert set(world.arms) == {ONE.name}
    assert world.champions == [1]


class Silent(Evidence):
    """A collector that does not answer."""

    def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
        raise Unavailable("the collector does not answer")


def test_an_abort_works_within_one_tick_while_nobody_knows_the_evidence(world: World) -> None:
    until(world, engine(world), lambda state: state.step == 1)
    deaf = engine(world, evidence=Silent(world))
    state = deaf.tick(TWO.name)
    (told,) = [one for one in state.conditions if one.name == "EvidenceFresh"]
    assert (told.holds, told.reason) == (False, "the collector does not answer")
    world.asked[TWO.name] = Intents(abort=True)
    assert deaf.tick(TWO.name).phase is Phase.ABORTED
    assert (world.routes[-1].weight, world.routes[-1].canary) == (0, "")


def test_a_candidate_that_is_lost_while_nobody_knows_the_evidence_is_rolled_back(world: World) -> None:
    until(world, engine(world), lambda state: state.step == 1)
    world.broken = frozenset({TWO.name})
    silent = engine(world, evidence=Silent(world))
    assert silent.tick(TWO.name).phase is Phase.STEPPING  # it is seen to be lost, and may come back
    world.now += 3600.0
    assert silent.tick(TWO.name).phase is Phase.ROLLED_BACK


class TestSampleRatio:
    """The test of the arms' shares."""

    @staticmethod
    def _state(*weights: int) -> RolloutState:
        steps = tuple(StepRecord(kind=StepKind.WEIGHT, weight=one, share=0.0, entered_at=START) for one in weights)
        return RolloutState(name=TWO.name, phase=Phase.STEPPING, step=len(weights) - 1, steps=steps)

    @staticmethod
    def _evidence(*parts: tuple[int, float, int], seed: int = 1) -> RolloutEvidence:
        """New units: step, true share of the canary, how many; a look closes with every tenth."""
        rng, units = np.random.default_rng(seed), list[FirstSeen]()
        for step, share, count in parts:
            for _ in range(count):
                arm = Arm.CANARY if rng.random() < share else Arm.STABLE
                units.append(FirstSeen(Cell(step, arm), START + len(units), len(units) // 10))
        return RolloutEvidence((), tuple(units), {}, len(units))

    def test_without_units_nothing_is_known(self) -> None:
        assert sample_ratio(self._state(50), self._evidence()) == SampleRatio()

    def test_units_in_their_shares_do_not_cross(self) -> None:
        """Over steps of different weight, by the weight of each."""
        found = self._evidence((0, 0.05, 400), (1, 0.25, 400), (2, 0.5, 400))
        assert sample_ratio(self._state(5, 25, 50), found).crossed_after is None

    def test_units_that_do_not_arrive_cross_and_say_when(self) -> None:
        found = self._evidence((0, 0.5, 300), (1, 0.0, 400))
        crossing = sample_ratio(self._state(50, 50), found)
        assert crossing.crossed_after is not None
        assert 30 < crossing.crossed_after < 70
        assert crossing.at == pytest.approx(START + 10 * crossing.crossed_after, abs=10)
        assert crossing.p_value < 0.01

    def test_what_came_later_does_not_move_the_crossing(self) -> None:
        longer = self._evidence((0, 0.0, 300), (1, 0.5, 300))
        shorter = RolloutEvidence((), longer.units[:300], {}, 300)
        state = self._state(50, 50)
        one, other = sample_ratio(state, shorter), sample_ratio(state, longer)
        assert one.crossed_after is not None
        assert (one.crossed_after, one.at) == (other.crossed_after, other.at)

    def test_a_bake_has_the_weight_of_the_step_before_it(self) -> None:
        steps = (*self._state(50).steps, StepRecord(kind=StepKind.BAKE, weight=50, share=0.0, entered_at=START))
        state = self._state(50).changed(steps=steps, step=1)
        assert sample_ratio(state, self._evidence((1, 0.0, 400))).crossed_after is not None

    def test_a_hold_back_is_not_tested(self) -> None:
        """Who is new after a promotion may land where the old steps would not have put him."""
        assert sample_ratio(self._state(50), self._evidence((1, 0.99, 900))).crossed_after is None

    def test_a_false_alarm_is_rare(self) -> None:
        """At most one in a hundred, however often it is looked at; here after every unit of 200 rollouts."""
        state = self._state(50)
        alarms = [
            sample_ratio(state, self._evidence((0, 0.5, 300), seed=seed)).crossed_after is not None
            for seed in range(200)
        ]
        assert sum(alarms) <= 200 * 0.01 + 3 * (200 * 0.01 * 0.99) ** 0.5
