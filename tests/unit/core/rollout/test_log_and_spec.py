"""What a rollout says of itself, what survives JSON, and which policies are refused before anything starts."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from rollout_world import ERRORS, HITS, LOSS, SHADOW, START, World, reading, spec_of, stepping

from serinus.core.assignment import canary_buckets, mirrored_buckets
from serinus.core.card.operation import Step
from serinus.core.rollout.actions import EnsureArm, SetRoute
from serinus.core.rollout.rules import route_at, stage_at
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import Act, RolloutState
from serinus.core.words import Arm, Phase, Stage, Verdict

HALF = {"weight": 50}
BOTH = {Act.START: "", Act.ROUTE: ""}


class TestLog:
    def test_looks_that_say_the_same_are_one_entry_that_shows_the_latest(self) -> None:
        world = stepping(spec_of(HALF))
        before = len(world.state.log)
        state = world.tick(*[reading(n) for n in range(1, 51)], now=START + 3000)
        assert len(state.log) == before + 1
        last = state.log[-1]
        assert (last.times, last.since, last.at, last.look) == (50, START + 60, START + 3000, 50)
        assert (last.verdict, last.metric, last.units) == (
            Verdict.CONTINUE,
            "hits",
            {Arm.STABLE: 1250, Arm.CANARY: 1250},
        )

    def test_a_decision_shows_what_was_measured_against_its_boundary(self) -> None:
        world = stepping(spec_of({"weight": 5}, HALF))
        state = world.tick(reading(1, non_inferior=True, low=-0.09, margin=-0.1), now=START + 60)
        crossing, advance = state.log[-2:]
        for entry, verdict in ((crossing, Verdict.CONTINUE), (advance, Verdict.ADVANCE)):
            assert (entry.verdict, entry.metric, entry.low, entry.boundary) == (verdict, "hits", -0.09, -0.1)
        state = world.tick(reading(2, "errors", step=1, harm=True, low=0.3, boundary=0.01), now=START + 120)
        crossing, end = state.log[-2:]
        for entry in (crossing, end):
            assert (entry.verdict, entry.metric, entry.low, entry.boundary) == (Verdict.ROLLBACK, "errors", 0.3, 0.01)
        assert (crossing.event, end.event) == ("crossing", "end")

    def test_it_stays_short_however_long_the_rollout_is(self) -> None:
        world = stepping(spec_of(HALF, kpis=(HITS, ERRORS, LOSS)))
        names = ("hits", "errors", "loss")
        for n in range(1, 601, 20):
            world.tick(*[reading(k, names[k % 3]) for k in range(n, n + 20)], now=START + n)
        assert len(world.state.log) == 2
        assert len(world.stored) < 5000

    def test_a_tick_without_news_writes_nothing(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(reading(1), now=START + 60)
        assert world.tick(reading(1), now=START + 90) == state

    def test_units_and_requests_of_a_step_are_its_own(self) -> None:
        world = stepping(spec_of({"weight": 5}, HALF))
        world.tick(reading(1), reading(2, non_inferior=True), now=START + 120)
        state = world.tick(reading(3, step=1, step_units=40), now=START + 180)
        # Requests of a reading are those of the whole stage; by this helper they grow by 50 from look to look.
        assert [(one.units, one.requests) for one in state.steps] == [(100, 100), (40, 50)]


class TestJson:
    def test_a_state_with_everything_in_it_comes_back_the_same(self) -> None:
        world = stepping(spec_of(SHADOW, HALF, independent_outcomes=True))
        world.tick(reading(1, stage=Stage.SHADOW, non_inferior=True, high=None), now=START + 60, unjudged={"wrong": 3})
        state = world.tick(reading(2, step=1), now=START + 120, intents=Intents(paused=True, approved=(1,)))
        assert state.step == 1
        assert RolloutState.model_validate_json(state.model_dump_json()) == state

    def test_a_spec_does_too(self) -> None:
        spec = spec_of(SHADOW, {"bake": timedelta(hours=2)}, HALF)
        assert RolloutSpec.model_validate_json(spec.model_dump_json()) == spec

    @pytest.mark.parametrize("text", ["0m", "5s", "90s", "45m", "90m", "12h", "36h", "7d"])
    def test_a_duration_is_written_as_the_card_writes_it(self, text: str) -> None:
        step = Step.model_validate({"bake": text})
        assert step.model_dump(mode="json")["bake"] == text

    def test_a_duration_that_no_card_can_write_is_refused(self) -> None:
        with pytest.raises(PydanticSerializationError, match="whole seconds"):
            Step(bake=timedelta(milliseconds=1500)).model_dump_json()

    def test_actions_left_undone_follow_from_what_was_written(self) -> None:
        world = World(spec_of(HALF))
        world.tick()
        world.tick(now=START + 1)
        world.stored = world.state.changed(pending=BOTH, in_force_at=None).model_dump_json()
        world.done.clear()
        state = world.tick(now=START + 2)
        assert len(world.done) == 2
        assert state.pending == {}

    def test_what_a_kill_left_undone_is_done_although_there_are_news(self) -> None:
        world = stepping(spec_of(HALF))
        world.stored = world.state.changed(pending=BOTH, in_force_at=None).model_dump_json()
        world.done.clear()
        state = world.tick(reading(1), now=START + 60)
        assert [type(one) for one in world.done] == [EnsureArm, SetRoute]
        assert state.pending == {}


class TestRoute:
    def test_buckets_follow_the_seed(self) -> None:
        spec = spec_of({"shadow": 0.3}, {"weight": 30})
        shadow, weight = route_at(spec, 0, 1), route_at(spec, 1, 2)
        canary = {bucket for bucket in range(1000) if weight.assigned(bucket) is Arm.CANARY}
        assert canary == set(canary_buckets(7, 30, 1))
        assert {bucket for bucket in range(1000) if shadow.mirrored(bucket)} == set(mirrored_buckets(7, 0.3)) == canary
        assert not any(weight.mirrored(bucket) for bucket in range(1000))

    def test_bakes_and_approvals_belong_to_the_step_before(self) -> None:
        spec = spec_of(SHADOW, {"approval": True}, HALF, {"bake": timedelta(hours=1)})
        assert [stage_at(spec, step) for step in range(4)] == [Stage.SHADOW] * 2 + [Stage.WEIGHTS] * 2
        assert route_at(spec, 1, 1) == route_at(spec, 0, 1)
        assert route_at(spec, 3, 1) == route_at(spec, 2, 1)


@pytest.mark.parametrize(
    ("steps", "changes", "why"),
    [
        ([SHADOW], {}, "needs a step with a weight"),
        ([{"weight": 99}], {"hold_back": 2}, "no room for the hold-back"),
        ([HALF, SHADOW], {}, "shadow comes before"),
        ([{"bake": timedelta(hours=1)}, HALF], {}, "cannot be the first"),
        ([SHADOW, HALF], {"kpis": (HITS, LOSS)}, "no KPI can be judged in shadow"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(steps: list[Any], changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        spec_of(*steps, **changes)


def test_end_states_are_the_five_last() -> None:
    assert [phase.value for phase in Phase if phase.ended] == [
        "promoted",
        "rolled_back",
        "undecided",
        "aborted",
        "superseded",
    ]


class TestEarlierRelease:
    """States that were written before schema 1, with two counters instead of what is pending."""

    @staticmethod
    def _written(state: RolloutState, written: int, acted: int) -> str:
        new = {"schema", "pending", "in_force_at", "unsupported"}
        raw = {name: value for name, value in json.loads(state.model_dump_json()).items() if name not in new}
        for one in raw["steps"]:
            del one["in_force_at"]
        return json.dumps(raw | {"written": written, "acted": acted})

    def test_one_that_was_acted_on_is_as_it_would_be_now(self) -> None:
        world = stepping(spec_of({"weight": 5}, HALF))
        state = world.tick(reading(1, non_inferior=True), now=START + 60)
        assert RolloutState.model_validate_json(self._written(state, 5, 5)) == state

    def test_one_that_ended_is_as_it_would_be_now(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(reading(1, non_inferior=True), now=START + 60)
        assert state.phase is Phase.PROMOTED
        assert RolloutState.model_validate_json(self._written(state, 3, 3)) == state

    def test_what_was_not_acted_on_is_pending(self) -> None:
        world = stepping(spec_of(HALF))
        found = RolloutState.model_validate_json(self._written(world.state, 3, 2))
        assert found.pending == BOTH
        assert (found.in_force_at, found.steps[-1].in_force_at) == (None, None)

    def test_a_later_schema_is_refused(self) -> None:
        raw = json.loads(RolloutState.first(spec_of(HALF)).model_dump_json())
        assert raw["schema"] == 1
        with pytest.raises(ValidationError, match="schema"):
            RolloutState.model_validate(raw | {"schema": 2})
