"""Evidence that is away takes nothing else from a tick: intents, readiness and deadlines go on, nothing is promoted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rollout_world import DAY, START, reading, spec_of, starting, stepping

from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.spec import Intents
from serinus.core.rollout.state import Condition
from serinus.core.words import Phase

HALF = {"weight": 50}
AWAY = "the collector does not answer"


def test_it_is_said_since_when_and_why_and_when_it_is_over() -> None:
    world = stepping(spec_of(HALF))
    assert [one.name for one in world.state.conditions] == ["CandidateReady"]
    for seconds in (10, 20):
        state = world.tick(now=START + seconds, absent=AWAY)
        assert Condition(name="EvidenceFresh", holds=False, since=START + 10, reason=AWAY) in state.conditions
    state = world.tick(reading(1), now=START + 60)
    assert Condition(name="EvidenceFresh", holds=True, since=START + 60) in state.conditions


def test_what_was_not_judged_so_far_stays_known() -> None:
    world = stepping(spec_of(HALF))
    world.tick(reading(1), now=START + 60, unjudged={"wrong": 3})
    assert world.tick(now=START + 70, absent=AWAY).unjudged == {"wrong": 3}


def test_an_abort_is_obeyed() -> None:
    world = stepping(spec_of(HALF))
    state = world.tick(now=START + 1, absent=AWAY, intents=Intents(abort=True))
    assert (state.phase, world.route.canary) == (Phase.ABORTED, "")


def test_a_candidate_lost_meanwhile_is_rolled_back() -> None:
    world = stepping(spec_of(HALF))
    gone = ArmCondition(readiness=Readiness.FAILED, since=START, reason="killed")
    assert world.tick(now=START + 121, absent=AWAY, candidate=gone).phase is Phase.ROLLED_BACK


def test_a_candidate_that_deploys_is_waited_for() -> None:
    world = stepping(spec_of(HALF))
    assert world.tick(now=START + 9, absent=AWAY, candidate=starting(START + 9)).phase is Phase.STEPPING


@pytest.mark.parametrize(
    ("policy", "phase"),
    [("hold", Phase.UNDECIDED), ("promote", Phase.UNDECIDED), ("rollback", Phase.ROLLED_BACK)],
)
def test_the_maximum_duration_ends_it_and_promotes_nothing(policy: str, phase: Phase) -> None:
    world = stepping(spec_of(HALF, on_inconclusive=policy, on_no_data=policy, max_duration=timedelta(days=1)))
    world.tick(reading(1), now=START + 60)
    state = world.tick(now=START + DAY + 1, absent=AWAY)
    assert (state.phase, AWAY in state.reason) == (phase, True)
