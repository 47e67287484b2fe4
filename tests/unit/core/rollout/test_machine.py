"""Each rule of the machine by a case that can fail: how a rollout begins, what moves it, and how it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rollout_world import (
    DAY,
    ERRORS,
    HITS,
    LEVEL,
    LOSS,
    REVENUE,
    SHADOW,
    SLOW,
    START,
    World,
    ratio,
    reading,
    spec_of,
    starting,
    stepping,
)

from serinus.core.rollout.actions import EnsureArm, RemoveArm, SetRoute
from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.route import RouteMode
from serinus.core.rollout.spec import Intents
from serinus.core.words import Arm, Phase, Stage, StepKind, Verdict

HALF = {"weight": 50}
BROKEN = ArmCondition(readiness=Readiness.FAILED, since=START, reason="golden rows differ")


def shown(sequence: int, kpi: str = "hits", **changes: Any) -> Any:
    return reading(sequence, kpi, non_inferior=True, **changes)


def hurt(sequence: int, kpi: str = "hits", **changes: Any) -> Any:
    return reading(sequence, kpi, harm=True, **changes)


class TestBeginning:
    def test_it_waits_for_its_turn_and_then_starts_the_candidate(self) -> None:
        world = World(spec_of(HALF))
        assert world.tick(turn=False).phase is Phase.QUEUED
        assert world.done == []
        assert world.tick(intents=Intents(paused=True)).phase is Phase.QUEUED
        assert world.tick().phase is Phase.DEPLOYING
        assert world.done == [EnsureArm(world.spec.candidate)]

    def test_traffic_moves_only_once_the_candidate_is_ready(self) -> None:
        world = World(spec_of(HALF))
        world.tick()
        world.tick(candidate=starting(START), now=START + 100)
        assert world.routes == []
        state = world.tick(now=START + 110)
        assert (state.phase, state.step, state.step_entered_at) == (Phase.STEPPING, 0, START + 110)
        assert [(one.mode, one.weight, one.canary) for one in world.routes] == [
            (RouteMode.PLAIN, 50, "retail-v2-bbbbbb")
        ]

    def test_a_pause_keeps_a_ready_candidate_from_traffic(self) -> None:
        world = World(spec_of(HALF))
        world.tick()
        assert world.tick(now=START + 9, intents=Intents(paused=True)).phase is Phase.DEPLOYING
        assert world.tick(now=START + 10).phase is Phase.STEPPING

    @pytest.mark.parametrize(
        ("candidate", "now", "reason"),
        [
            (BROKEN, START + 1, "cannot start: golden rows differ"),
            (starting(START, "no such image"), START + 121, "not ready within 0:02:00: no such image"),
        ],
    )
    def test_a_candidate_that_never_gets_ready_is_refused_without_a_route(
        self, candidate: ArmCondition, now: float, reason: str
    ) -> None:
        world = World(spec_of(HALF))
        world.tick(candidate=candidate)
        assert world.tick(candidate=starting(START), now=START + 120).phase is Phase.DEPLOYING
        state = world.tick(candidate=candidate, now=now)
        assert state.phase is Phase.ROLLED_BACK
        assert reason in state.reason
        assert (world.routes, state.decided_by, state.decided_in) == ([], "", None)
        assert world.done[-1] == RemoveArm(world.spec.candidate)

    def test_a_candidate_that_died_is_started_again(self) -> None:
        world = stepping(spec_of(HALF))
        world.done.clear()
        world.tick(now=START + 1)
        assert world.done == []
        world.tick(now=START + 2, candidate=starting(START + 2))
        assert EnsureArm(world.spec.candidate) in world.done


class TestAdvance:
    def test_a_promotion_moves_all_but_the_hold_back(self) -> None:
        world = stepping(spec_of(HALF, hold_back=2))
        world.tick(reading(1), now=START + 60)
        state = world.tick(shown(2), now=START + 120)
        assert (state.phase, state.decided_by, state.decided_in) == (Phase.PROMOTED, "hits", Stage.WEIGHTS)
        assert (world.route.weight, world.route.canary) == (98, "retail-v2-bbbbbb")
        assert world.champion == 2
        assert "retail-v1-aaaaaa" not in [one.revision.name for one in world.done if isinstance(one, RemoveArm)]

    def test_without_a_hold_back_the_old_arm_goes_last(self) -> None:
        world = stepping(spec_of(HALF, hold_back=0))
        world.done.clear()
        state = world.tick(shown(1), now=START + 60)
        assert world.done == [SetRoute(state.route), RemoveArm(world.spec.stable)]
        assert world.champion == 2
        assert world.route.weight == 100

    def test_every_goal_must_be_shown_and_is_then_remembered(self) -> None:
        world = stepping(spec_of(HALF, kpis=(HITS, REVENUE, ERRORS)))
        state = world.tick(shown(1), now=START + 60)
        assert (state.phase, state.log[-1].event, state.log[-1].verdict) == (
            Phase.STEPPING,
            "crossing",
            Verdict.CONTINUE,
        )
        state = world.tick(shown(2), now=START + 120)
        assert state.log[-1].reason == "waits until shown not to be inferior: revenue"
        assert [(one.kpi, one.sequence) for one in state.crossed] == [("hits", 1)]
        assert world.tick(shown(3, "revenue"), now=START + 180).decided_by == "hits"

    @pytest.mark.parametrize(("kpi", "needed"), [(ERRORS, False), (SLOW, True), (LEVEL, False)])
    def test_a_guardrail_must_be_shown_only_where_it_has_a_margin(self, kpi: Any, needed: bool) -> None:
        world = stepping(spec_of(HALF, kpis=(HITS, kpi)))
        state = world.tick(shown(1), reading(2, kpi.name), now=START + 120)
        assert (state.phase is Phase.STEPPING) is needed
        if needed:
            assert world.tick(shown(3, kpi.name), now=START + 180).phase is Phase.PROMOTED

    def test_units_of_the_step_are_those_of_a_kpi_that_must_be_shown(self) -> None:
        world = stepping(spec_of({"weight": 50, "min_units": 200}))
        state = world.tick(shown(1, units=199), reading(2, "errors", units=500), now=START + 120)
        assert state.phase is Phase.STEPPING
        assert state.log[-1].reason == "waits for units in this step"
        assert world.tick(reading(3, units=200), now=START + 180).phase is Phase.PROMOTED

    def test_time_runs_between_the_exposures_of_the_step(self) -> None:
        world = stepping(spec_of({"weight": 50, "min_duration": timedelta(days=1)}))
        state = world.tick(shown(1), reading(2, at=START + 60 + DAY - 1), now=START + 9 * DAY)
        assert state.phase is Phase.STEPPING
        assert state.log[-1].reason == "waits for time in this step"
        assert world.tick(reading(3, at=START + 60 + DAY), now=START + 9 * DAY).phase is Phase.PROMOTED

    def test_time_runs_from_the_first_judged_request_not_from_the_first_look(self) -> None:
        """A KPI that looks seldom does not add its pace to the duration."""
        world = stepping(spec_of({"weight": 50, "min_duration": timedelta(days=1)}))
        began = {"step_from": START + 10}
        state = world.tick(shown(1, at=START + 10 + DAY - 1, **began), now=START + 2 * DAY)
        assert (state.phase, state.steps[0].first_at) == (Phase.STEPPING, START + 10)
        assert world.tick(reading(2, at=START + 10 + DAY, **began), now=START + 2 * DAY).phase is Phase.PROMOTED

    def test_a_step_is_left_by_a_look_of_its_own(self) -> None:
        """Shown at 5 %: each later weight is still looked at before the next one."""
        world = stepping(spec_of({"weight": 5}, {"weight": 25}, HALF))
        state = world.tick(shown(1), reading(2), reading(3), now=START + 180)
        assert (state.step, world.route.weight) == (1, 25)
        state = world.tick(reading(4, step=1), now=START + 240)
        assert (state.step, world.route.weight) == (2, 50)
        assert [(one.number, one.weight) for one in world.routes] == [(1, 5), (2, 25), (3, 50)]
        assert world.tick(reading(5, step=2), now=START + 300).phase is Phase.PROMOTED

    def test_no_weight_is_left_before_every_goal_is_shown(self) -> None:
        world = stepping(spec_of({"weight": 5}, HALF))
        assert world.tick(*[reading(n) for n in range(1, 30)], now=START + 9000).step == 0

    def test_only_a_ready_candidate_gets_more(self) -> None:
        world = stepping(spec_of(HALF))
        lost = starting(START + 50)
        state = world.tick(shown(1), now=START + 60, candidate=lost)
        assert (state.phase, state.log[-1].event) == (Phase.STEPPING, "crossing")
        assert world.tick(now=START + 70).phase is Phase.PROMOTED

    def test_a_report_decides_nothing(self) -> None:
        world = stepping(spec_of(HALF, kpis=(HITS, LEVEL)))
        state = world.tick(hurt(1, "level"), now=START + 60)
        assert (state.phase, state.crossed) == (Phase.STEPPING, ())


class TestShadow:
    def test_all_is_answered_by_the_stable_arm(self) -> None:
        world = stepping(spec_of({"shadow": 0.2}, HALF))
        assert (world.route.mode, world.route.weight, world.route.share) == (RouteMode.SHADOW, 0, 0.2)
        assert {world.route.assigned(bucket) for bucket in range(1000)} == {Arm.STABLE}
        assert sum(world.route.mirrored(bucket) for bucket in range(1000)) == 200

    def test_goals_that_shadow_cannot_judge_wait_for_the_weights(self) -> None:
        world = stepping(spec_of({**SHADOW, "min_units": 100}, HALF))
        state = world.tick(reading(1, "errors", stage=Stage.SHADOW), now=START + 60)
        assert (state.step, state.log[-1].reason) == (0, "waits for units in this step")
        state = world.tick(reading(2, "errors", stage=Stage.SHADOW), now=START + 120)
        assert (state.step, world.route.mode, world.route.weight) == (1, RouteMode.PLAIN, 50)
        assert world.tick(reading(3, "errors", step=1), now=START + 180).phase is Phase.STEPPING

    def test_goals_that_shadow_judges_are_shown_in_each_stage_by_itself(self) -> None:
        world = stepping(spec_of(SHADOW, HALF, independent_outcomes=True))
        assert world.tick(reading(1, stage=Stage.SHADOW), now=START + 60).step == 0
        assert world.tick(shown(2, stage=Stage.SHADOW), now=START + 120).step == 1
        state = world.tick(reading(3, step=1), now=START + 180)
        assert state.log[-1].reason == "waits until shown not to be inferior: hits"
        assert world.tick(shown(4, step=1), now=START + 240).phase is Phase.PROMOTED

    def test_it_rejects_alone(self) -> None:
        world = stepping(spec_of(SHADOW, HALF))
        state = world.tick(hurt(1, "errors", stage=Stage.SHADOW), now=START + 60)
        assert (state.phase, state.decided_by, state.decided_in) == (Phase.ROLLED_BACK, "errors", Stage.SHADOW)
        assert [one.weight for one in world.routes] == [0, 0]

    def test_a_late_look_at_shadow_can_still_reject(self) -> None:
        world = stepping(spec_of(SHADOW, HALF))
        world.tick(reading(1, "errors", stage=Stage.SHADOW), now=START + 60)
        state = world.tick(hurt(2, "errors", stage=Stage.SHADOW), now=START + 120)
        assert (state.step, state.decided_in) == (1, Stage.SHADOW)


class TestRollback:
    @pytest.mark.parametrize("kpi", [HITS, ERRORS, LOSS])
    def test_harm_of_any_goal_or_guardrail_takes_the_traffic_back(self, kpi: Any) -> None:
        world = stepping(spec_of(HALF, kpis=(HITS, ERRORS, LOSS)))
        world.done.clear()
        state = world.tick(reading(1), hurt(2, kpi.name), now=START + 130)
        assert (state.phase, state.decided_by, state.decided_in) == (Phase.ROLLED_BACK, kpi.name, Stage.WEIGHTS)
        assert (state.ended_at, state.steps[-1].left_at, state.log[-1].at) == (START + 130, START + 130, START + 120)
        assert (world.route.weight, world.route.canary, world.champion) == (0, "", 1)
        assert world.done == [SetRoute(state.route), RemoveArm(world.spec.candidate)]

    def test_harm_comes_before_an_advance_at_the_same_look(self) -> None:
        world = stepping(spec_of(HALF))
        assert world.tick(hurt(1, non_inferior=True), now=START + 60).phase is Phase.ROLLED_BACK

    def test_the_first_that_crossed_is_named(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(hurt(1, "errors"), hurt(2), now=START + 120)
        assert (state.decided_by, state.looks) == ("errors", 1)

    def test_a_candidate_lost_for_too_long_is_rolled_back(self) -> None:
        world = stepping(spec_of(HALF))
        gone = ArmCondition(readiness=Readiness.FAILED, since=START + 10, reason="killed")
        assert world.tick(now=START + 130, candidate=gone).phase is Phase.STEPPING
        paused = Intents(paused=True)
        state = world.tick(now=START + 131, candidate=gone, intents=paused)
        assert (state.phase, state.decided_by) == (Phase.ROLLED_BACK, "")
        assert "killed" in state.reason


class TestOtherSteps:
    def test_an_approval_holds_until_it_is_given_for_that_step(self) -> None:
        world = stepping(spec_of(SHADOW, {"approval": True}, HALF))
        world.tick(reading(1, "errors", stage=Stage.SHADOW), now=START + 60)
        state = world.tick(now=START + 5000, intents=Intents(approved=(0, 2)))
        assert (state.step, world.route.mode) == (1, RouteMode.SHADOW)
        state = world.tick(now=START + 6000, intents=Intents(approved=(0, 1, 2)))
        assert (state.step, state.step_entered_at, world.route.weight) == (2, START + 6000, 50)

    def test_an_approval_does_not_excuse_a_goal(self) -> None:
        world = stepping(spec_of({"weight": 5}, {"approval": True}, HALF))
        assert world.tick(reading(1), now=START + 60, intents=Intents(approved=(1,))).step == 0

    def test_an_approval_given_before_holds_up_no_look(self) -> None:
        """The step of an approval is left at once, so the next look of the same batch is one of the step after it."""
        world = stepping(spec_of(SHADOW, {"approval": True}, {"weight": 5}, HALF))
        looks = (reading(1, "errors", stage=Stage.SHADOW), shown(2, step=2))
        state = world.tick(*looks, now=START + 180, intents=Intents(approved=(1,)))
        assert (state.step, state.steps[2].closed["hits"].units) == (3, 100)

    def test_an_approval_can_be_first(self) -> None:
        world = stepping(spec_of({"approval": True}, HALF))
        assert (world.route.mode, world.route.weight) == (RouteMode.PLAIN, 0)
        assert world.tick(now=START + 60).step == 0
        assert world.tick(now=START + 70, intents=Intents(approved=(0,))).step == 1

    def test_a_bake_keeps_the_weight_for_its_time(self) -> None:
        world = stepping(spec_of({"weight": 5}, {"bake": timedelta(hours=1)}, HALF))
        world.tick(shown(1), now=START + 60)
        routes = len(world.routes)
        world.tick(reading(2, step=1, at=START + 100), now=START + 100)
        state = world.tick(reading(3, step=1, at=START + 3699), now=START + 8000)
        assert (state.step, state.steps[1].kind, state.steps[1].weight) == (1, StepKind.BAKE, 5)
        assert len(world.routes) == routes
        assert world.tick(reading(4, step=1, at=START + 3700), now=START + 8000).step == 2

    def test_harm_in_a_bake_rolls_back(self) -> None:
        world = stepping(spec_of({"weight": 5}, {"bake": timedelta(hours=1)}, HALF))
        world.tick(shown(1), now=START + 60)
        assert world.tick(hurt(2, "errors", step=1), now=START + 120).phase is Phase.ROLLED_BACK


class TestIntents:
    def test_while_paused_looks_are_taken_and_their_verdict_waits(self) -> None:
        world, paused = stepping(spec_of(HALF)), Intents(paused=True)
        state = world.tick(shown(1), now=START + 60, intents=paused)
        assert (state.phase, state.looks) == (Phase.STEPPING, 1)
        assert [one.verdict for one in state.log[-2:]] == [Verdict.HOLD, Verdict.HOLD]
        assert world.tick(now=START + 70).phase is Phase.PROMOTED

    def test_harm_while_paused_is_kept_and_rolls_back_on_resuming(self) -> None:
        world, paused = stepping(spec_of(HALF)), Intents(paused=True)
        world.tick(hurt(1, "errors"), reading(2), hurt(3), now=START + 180, intents=paused)
        state = world.tick(reading(4), now=START + 240, intents=paused)
        assert (state.phase, state.log[-1].reason) == (Phase.STEPPING, "held: paused")
        state = world.tick(now=START + 300)
        assert (state.phase, state.decided_by) == (Phase.ROLLED_BACK, "errors")

    def test_a_pause_outlives_the_maximum_duration(self) -> None:
        world, paused = stepping(spec_of(HALF)), Intents(paused=True)
        assert world.tick(now=START + 61 * DAY, intents=paused).phase is Phase.STEPPING
        assert world.tick(now=START + 61 * DAY).phase is Phase.UNDECIDED

    @pytest.mark.parametrize("ticks", [0, 1, 2])
    def test_an_abort_ends_it_wherever_it_is(self, ticks: int) -> None:
        world = World(spec_of(HALF))
        for n in range(ticks):
            world.tick(now=START + n)
        state = world.tick(shown(1), now=START + 60, intents=Intents(abort=True, paused=True))
        assert (state.phase, state.reason, world.champion) == (Phase.ABORTED, "aborted on request", 1)
        assert world.arms == set()
        assert [one.weight for one in world.routes] == ([50, 0] if ticks == 2 else [])

    @pytest.mark.parametrize(
        ("policy", "phase"), [("queue", Phase.STEPPING), ("reject", Phase.STEPPING), ("replace", Phase.SUPERSEDED)]
    )
    def test_a_newer_revision_waits_is_rejected_or_replaces(self, policy: str, phase: Phase) -> None:
        world = stepping(spec_of(HALF, on_supersede=policy))
        newer = Intents(superseded_by="retail-v3-cccccc")
        state = world.tick(now=START + 60, intents=newer)
        assert state.phase is phase
        assert f"retail-v3-cccccc is newer: {policy}" in [one.reason for one in state.log]
        assert (world.route.weight == 0) is (phase is Phase.SUPERSEDED)
        log = state.log
        assert world.tick(now=START + 70, intents=newer).log == log

    def test_an_approval_can_be_withdrawn_before_its_step(self) -> None:
        world = stepping(spec_of(SHADOW, {"approval": True}, HALF))
        world.tick(now=START + 10, intents=Intents(approved=(1,)))
        state = world.tick(reading(1, "errors", stage=Stage.SHADOW), now=START + 60)
        assert state.step == 1
        assert "the approval of step 1 is withdrawn" in [one.reason for one in state.log]


class TestFreeze:
    @pytest.mark.parametrize("look", [shown(2), hurt(2), hurt(2, "errors")])
    def test_a_broken_sample_ratio_stops_every_verdict(self, look: Any) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(reading(1), look, reading(3), now=START + 180, ratio=ratio(1))
        assert (state.phase, state.frozen, state.looks) == (Phase.STEPPING, True, 3)
        assert state.conditions[-1].name == "SampleRatioMatched"
        assert world.tick(reading(4), now=START + 240).phase is Phase.STEPPING

    def test_a_look_before_it_crossed_still_decides(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(hurt(1), reading(2), now=START + 180, ratio=ratio(1))
        assert (state.phase, state.frozen) == (Phase.ROLLED_BACK, False)

    def test_it_waits_for_looks_that_closed_before_it(self) -> None:
        world = stepping(spec_of(HALF))
        assert not world.tick(reading(1), now=START + 60, ratio=ratio(2)).frozen
        assert world.tick(shown(2), now=START + 120, ratio=ratio(2)).phase is Phase.PROMOTED

    @pytest.mark.parametrize("policy", ["hold", "promote", "rollback"])
    def test_frozen_ends_undecided_whatever_the_policy(self, policy: str) -> None:
        world = stepping(spec_of(HALF, on_inconclusive=policy, on_no_data=policy))
        world.tick(reading(1), now=START + 60, ratio=ratio(1))
        state = world.tick(now=START + 60 * DAY + 1)
        assert (state.phase, world.route.weight) == (Phase.UNDECIDED, 0)

    def test_a_frozen_rollout_can_be_aborted(self) -> None:
        world = stepping(spec_of(HALF))
        world.tick(now=START + 60, ratio=ratio(0))
        assert world.tick(now=START + 70, intents=Intents(abort=True)).phase is Phase.ABORTED


class TestMaximumDuration:
    ENDS = (("hold", Phase.UNDECIDED, 0), ("promote", Phase.PROMOTED, 99), ("rollback", Phase.ROLLED_BACK, 0))

    @pytest.mark.parametrize(("policy", "phase", "weight"), ENDS)
    def test_inconclusive(self, policy: str, phase: Phase, weight: int) -> None:
        world = stepping(spec_of(HALF, on_inconclusive=policy))
        world.tick(reading(1), now=START + 60)
        assert world.tick(now=START + 60 * DAY).phase is Phase.STEPPING
        state = world.tick(now=START + 60 * DAY + 1)
        assert (state.phase, world.route.weight, state.decided_by) == (phase, weight, "")
        assert "not decided within the maximum duration" in state.reason

    @pytest.mark.parametrize(("policy", "phase", "weight"), ENDS)
    def test_not_enough_data_is_a_case_of_its_own(self, policy: str, phase: Phase, weight: int) -> None:
        world = stepping(spec_of(HALF, on_no_data=policy, kpis=(HITS, LEVEL)))
        world.tick(reading(1, enough=False), reading(2, "level"), now=START + 120)
        state = world.tick(now=START + 60 * DAY + 1, closed=23)
        assert (state.phase, world.route.weight) == (phase, weight)
        assert "not enough data (23 exposures closed)" in state.reason

    def test_a_look_past_it_does_not_decide(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(hurt(1, at=START + 60 * DAY + 1), now=START + 60 * DAY + 2)
        assert (state.phase, state.crossed) == (Phase.UNDECIDED, ())

    def test_a_look_before_it_that_closed_late_does(self) -> None:
        world = stepping(spec_of(HALF))
        assert world.tick(hurt(1), now=START + 60 * DAY + 2).phase is Phase.ROLLED_BACK

    def test_what_is_not_ready_is_not_promoted(self) -> None:
        world = stepping(spec_of(HALF, on_no_data="promote", ready_within=timedelta(hours=1)))
        over = START + 60 * DAY + 1
        assert world.tick(now=over, candidate=starting(over - 10)).phase is Phase.STEPPING
        assert world.tick(now=over + 5).phase is Phase.PROMOTED


class TestAfterTheEnd:
    def test_the_hold_back_reports_late_harm_once_and_changes_nothing(self) -> None:
        world = stepping(spec_of(HALF))
        before = world.tick(shown(1), now=START + 60)
        world.done.clear()
        state = world.tick(reading(2), hurt(3), hurt(4), now=START + 9 * DAY)
        assert [one.reason for one in state.log[len(before.log) :]] == [
            "hits is harmed after the promotion: only reported"
        ]
        assert state.held_back["hits"].sequence == 4
        assert (state.phase, state.route, state.readings) == (before.phase, before.route, before.readings)
        assert world.done == []

    def test_looks_behind_a_promotion_are_the_hold_backs(self) -> None:
        world = stepping(spec_of(HALF))
        state = world.tick(shown(1), reading(2), now=START + 120)
        assert (state.looks, state.readings[Stage.WEIGHTS]["hits"].sequence) == (2, 1)
        assert state.held_back["hits"].sequence == 2

    @pytest.mark.parametrize("end", [hurt(1), None])
    def test_any_other_end_takes_nothing_in(self, end: Any) -> None:
        world = stepping(spec_of(HALF))
        last = world.tick(end, now=START + 60) if end else world.tick(now=START + 60, intents=Intents(abort=True))
        again = world.tick(shown(2), now=START + 90 * DAY, intents=Intents(superseded_by="x"), ratio=ratio(0))
        assert again == last


class TestAtOnce:
    def test_a_promotion_in_full_needs_a_ready_candidate_and_nothing_else(self) -> None:
        world, full = World(spec_of(HALF)), Intents(promote_full=True)
        world.tick()
        assert world.tick(now=START + 1, intents=full, candidate=starting(START)).phase is Phase.DEPLOYING
        state = world.tick(now=START + 2, intents=full)
        assert (state.phase, state.steps, state.route.number, world.route.weight) == (Phase.PROMOTED, (), 1, 100)
        assert world.done[-1] == RemoveArm(world.spec.stable)

    def test_it_comes_before_harm_and_a_freeze(self) -> None:
        world = stepping(spec_of(HALF))
        world.tick(reading(1), now=START + 60, ratio=ratio(1))
        state = world.tick(hurt(2), now=START + 61, intents=Intents(promote_full=True))
        assert (state.phase, state.reason) == (Phase.PROMOTED, "promoted in full on request; not judged")

    def test_an_abort_comes_before_it(self) -> None:
        world = stepping(spec_of(HALF))
        assert world.tick(now=START + 1, intents=Intents(promote_full=True, abort=True)).phase is Phase.ABORTED

    def test_one_that_served_lately_goes_at_once_unless_it_is_paused(self) -> None:
        world = World(spec_of(HALF, at_once=True))
        world.tick()
        assert world.tick(now=START + 1, intents=Intents(paused=True)).phase is Phase.DEPLOYING
        assert world.tick(now=START + 2).phase is Phase.PROMOTED
