"""A route that is slow to come into force, or never does: the step waits for it, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rollout_world import DAY, SHADOW, START, World, reading, spec_of, starting, stepping

from serinus.core.rollout.actions import EnsureArm, RemoveArm, SetRoute, done, due
from serinus.core.rollout.evidence import ArmCondition, Evidence, Readiness
from serinus.core.rollout.spec import Intents
from serinus.core.rollout.state import Act
from serinus.core.words import Phase

HALF = {"weight": 50}
GONE = ArmCondition(readiness=Readiness.FAILED, since=START, reason="killed")


def waiting(*steps: dict[str, Any], **changes: Any) -> World:
    """A rollout whose first step was decided and whose splitter answers pending for ever."""
    world = World(spec_of(*(steps or (HALF,)), **changes), delays=True)
    world.tick(now=START)
    state = world.tick(now=START)
    assert (state.phase, state.pending, state.in_force_at) == (
        Phase.STEPPING,
        {Act.ROUTE: "the gateway is slow"},
        None,
    )
    return world


def test_a_step_begins_when_its_route_is_in_force() -> None:
    world = waiting()
    assert [(one.entered_at, one.in_force_at) for one in world.state.steps] == [(START, None)]
    world.delays = False
    state = world.tick(now=START + 40)
    assert [(one.entered_at, one.in_force_at) for one in state.steps] == [(START, START + 40)]
    assert (state.in_force_at, state.pending) == (START + 40, {})
    assert world.tick(now=START + 41).in_force_at == START + 40


def test_a_step_that_keeps_the_route_begins_at_once() -> None:
    world = stepping(spec_of(SHADOW, {"approval": True}, HALF))
    looked = reading(1, "errors", stage="shadow")
    state = world.tick(looked, now=START + 60)
    assert [(one.entered_at, one.in_force_at) for one in state.steps] == [(START, START), (START + 60, START + 60)]
    assert state.in_force_at == START


def test_an_abort_replaces_a_route_that_never_comes() -> None:
    world = waiting()
    world.tick(now=START + 5, intents=Intents(abort=True))
    state = world.tick(now=START + 6, intents=Intents(abort=True))
    assert (state.phase, state.route.weight, state.route.canary) == (Phase.ABORTED, 0, "")
    assert state.steps[-1].in_force_at is None
    assert world.routes == []
    assert not [one for one in world.done if isinstance(one, RemoveArm)], "traffic may still reach it"
    world.delays = False
    state = world.tick(now=START + 7, intents=Intents(abort=True))
    assert (world.route, state.pending) == (state.route, {})
    assert world.done[-2:] == [SetRoute(state.route), RemoveArm(world.spec.candidate)]


def test_harm_of_a_step_before_ends_a_rollout_whose_next_route_never_comes() -> None:
    world = stepping(spec_of({"weight": 5}, HALF))
    world.delays = True
    state = world.tick(reading(1, non_inferior=True), now=START + 60)
    assert (state.step, state.pending[Act.ROUTE]) == (1, "the gateway is slow")
    state = world.tick(reading(2, "errors", harm=True), now=START + 90)
    assert (state.phase, state.decided_by, state.route.weight) == (Phase.ROLLED_BACK, "errors", 0)


@pytest.mark.parametrize("candidate", [GONE, starting(START)])
def test_a_candidate_lost_meanwhile_ends_it(candidate: ArmCondition) -> None:
    world = waiting()
    assert world.tick(now=START + 120, candidate=candidate).phase is Phase.STEPPING
    state = world.tick(now=START + 121, candidate=candidate)
    assert (state.phase, state.route.canary) == (Phase.ROLLED_BACK, "")


def test_a_deadline_ends_it() -> None:
    world = waiting(max_duration=timedelta(days=1))
    assert world.tick(now=START + DAY + 1).phase is Phase.UNDECIDED


def test_a_route_that_can_never_be_made_ends_it_and_says_why() -> None:
    world = waiting()
    world.stored = world.state.changed(unsupported="the gateway knows no mirrors").model_dump_json()
    state = world.tick(now=START + 1)
    assert (state.phase, state.unsupported) == (Phase.ROLLED_BACK, "")
    assert state.reason == "the traffic cannot be divided: the gateway knows no mirrors"


def test_no_approval_is_taken_before_the_first_route_is_in_force() -> None:
    world = waiting({"approval": True}, HALF)
    given = Intents(approved=(0,))
    assert world.tick(now=START + 10, intents=given).step == 0
    world.delays = False
    assert world.tick(now=START + 20, intents=given).step == 0  # decided before it was asked
    assert world.tick(now=START + 30, intents=given).step == 1


def test_acts_are_done_each_for_itself() -> None:
    """The candidate is started again although the route waits; what is done is not asked for again."""
    world = waiting()
    evidence = Evidence(candidate=starting(START))
    assert due(world.spec, world.state, evidence) == (EnsureArm(world.spec.candidate), SetRoute(world.state.route))
    routed = done(world.state, Act.ROUTE, START + 3)
    assert due(world.spec, routed, Evidence(candidate=evidence.candidate)) == (EnsureArm(world.spec.candidate),)
