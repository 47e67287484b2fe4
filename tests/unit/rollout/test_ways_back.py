"""Ways back and forward, by hand or by policy: undo, promotion in full, a revision that served lately, hold-backs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fakes import ONE, SECOND, THIRD, THREE, TWO, Killed, World, revision

from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.record import record_of
from serinus.core.rollout.spec import Intents, Said
from serinus.core.words import Phase
from serinus.rollout.service import ServiceView, Standing

ALICE = Said(by="alice", reason="incident 4711")


def live(world: World, rounds: int = 40) -> ServiceView:
    """Ticks until nothing is left to decide; a killed process is followed by another one."""
    controller = world.controller()
    for _ in range(rounds):
        try:
            view = controller.tick()
            if controller.settled():
                return view
        except Killed:
            controller = world.controller()
        world.visit()
    raise AssertionError("it never settled")


def want(world: World, number: int) -> ServiceView:
    world.wanted = Wanted(revision(number), ONE)
    return live(world)


def serving(number: int, **options: object) -> World:
    """A world in which that version serves, the ones before it having served in turn."""
    world = World(**options)  # type: ignore[arg-type]
    live(world)
    for one in range(2, number + 1):
        want(world, one)
    return world


def until_weight(world: World, weight: int) -> None:
    controller = world.controller()
    for _ in range(20):
        controller.tick()
        if world.routes[-1].weight == weight:
            return
        world.visit()
    raise AssertionError("it never was")


class TestPromoteInFull:
    def test_it_gets_all_traffic_without_a_hold_back_and_says_that_nothing_was_judged(self) -> None:
        world = serving(1)
        world.wanted = Wanted(TWO, ONE)
        until_weight(world, 50)
        world.asked[SECOND] = Intents(promote_full=True, said={"promote_full": ALICE})
        view = live(world)
        assert (view.stable, world.routes[-1].weight, set(world.arms)) == (TWO, 100, {TWO.name})
        state = world.state(SECOND)
        assert (state.phase, state.decided_by) == (Phase.PROMOTED, "")
        assert state.reason == "promoted in full on request by alice: incident 4711; not judged"
        assert "asked to promote in full by alice: incident 4711" in [one.reason for one in state.log]
        assert world.champions == [1, 2]

    def test_it_heals_a_stable_revision_that_is_broken_and_waits_until_the_candidate_is_ready(self) -> None:
        world = serving(1, broken=frozenset({TWO.name}))
        world.wanted = Wanted(TWO, ONE)
        controller = world.controller()
        controller.tick()
        world.asked[SECOND] = Intents(promote_full=True)
        controller.tick()
        assert world.state(SECOND).phase is Phase.DEPLOYING
        world.broken = frozenset({ONE.name})
        assert live(world).stable == TWO
        state, spec = world.state(SECOND), world.controller()._ports.store.load().rollouts[0].spec
        assert (state.steps, state.route is not None and state.route.number) == ((), 1)
        assert record_of(spec, state, ()).outcome is Phase.PROMOTED

    def test_a_frozen_or_paused_rollout_is_promoted_all_the_same(self) -> None:
        world = serving(1)
        world.wanted = Wanted(TWO, ONE)
        until_weight(world, 50)
        world.asked[SECOND] = Intents(paused=True, promote_full=True)
        assert live(world).stable == TWO


class TestUndo:
    def test_the_revision_before_gets_all_traffic_and_what_is_wanted_waits_for_another_wish(self) -> None:
        world = serving(2)
        world.asked[SECOND] = Intents(undo=True, said={"undo": ALICE})
        view = world.controller().tick()
        assert view.stable == ONE
        assert (world.routes[-1].stable, world.routes[-1].canary, world.routes[-1].weight) == (ONE.name, "", 0)
        view = live(world)
        assert (view.standing, view.stable) == (Standing.WANTED_NOT_SERVING, ONE)
        assert view.reason == "aborted: undone by alice: incident 4711"
        assert set(world.arms) == {ONE.name}
        assert world.champions == [1, 2, 1]
        assert world.wanted == Wanted(TWO, ONE), "what others own is not written"
        assert want(world, 3).stable == THREE

    def test_it_waits_until_that_revision_is_ready(self) -> None:
        world = serving(2, policy={"hold_back": 0})
        assert set(world.arms) == {TWO.name}
        world.asked[SECOND] = Intents(undo=True)
        world.broken = frozenset({ONE.name})
        assert world.controller().tick().stable == TWO
        assert world.routes[-1].weight == 100
        world.broken = frozenset()
        world.controller().tick()
        assert (world.memory.stable, world.routes[-1].stable) == (ONE, ONE.name)

    def test_what_is_under_way_is_aborted_first(self) -> None:
        world = serving(2)
        world.wanted = Wanted(THREE, ONE)
        until_weight(world, 50)
        world.asked[SECOND] = Intents(undo=True, said={"undo": ALICE})
        view = live(world)
        assert (view.stable, view.standing) == (ONE, Standing.WANTED_NOT_SERVING)
        assert world.state(THIRD).phase is Phase.ABORTED
        assert "is undone by alice: incident 4711" in world.state(THIRD).reason
        assert set(world.arms) == {ONE.name}

    def test_a_revision_that_is_not_ready_in_time_is_waited_for_no_more_and_nothing_begins_meanwhile(self) -> None:
        world = serving(2, policy={"hold_back_for": timedelta(minutes=1)})
        want(world, 2)
        world.visit()
        world.controller().tick()
        assert set(world.arms) == {TWO.name}
        world.asked[SECOND], world.broken = Intents(undo=True, said={"undo": ALICE}), frozenset({ONE.name})
        controller, world.wanted = world.controller(), Wanted(THREE, ONE)
        for _ in range(3):
            controller.tick()
            assert list(world.specs) == [SECOND]
            world.visit()
        assert live(world).stable == THREE
        assert world.state(THIRD).phase is Phase.PROMOTED
        told = world.asked[SECOND]
        assert (told.undo, told.said["undo"]) == (
            False,
            Said(by="alice", reason=f"given up: {ONE.name} was not ready in time"),
        )
        assert set(world.arms) == {TWO.name, THREE.name}

    @pytest.mark.parametrize("kill_after", [False, True])
    def test_killed_at_any_call_it_comes_to_the_same_end(self, kill_after: bool) -> None:
        def play(kill_at: int) -> World:
            world = serving(2)
            world.asked[SECOND] = Intents(undo=True)
            world.calls, world.kill_at, world.kill_after = 0, kill_at, kill_after
            live(world)
            return world

        whole = play(-1)
        for number in range(whole.calls):
            world = play(number)
            assert (world.memory.stable, set(world.arms)) == (ONE, {ONE.name}), number
            assert world.routes[-1] == whole.routes[-1], number


class TestRollbackWindow:
    def test_a_revision_that_served_lately_gets_all_traffic_at_once(self) -> None:
        world = serving(3, policy={"rollback_window": 1})
        view = want(world, 2)
        assert view.stable == TWO
        state = world.state(f"{TWO.name}-4")
        assert (state.phase, state.steps) == (Phase.PROMOTED, ())
        assert state.reason.endswith("not judged")
        assert (world.routes[-1].weight, set(world.arms)) == (100, {TWO.name})

    def test_one_from_before_the_window_is_judged(self) -> None:
        world = serving(3, policy={"rollback_window": 1})
        want(world, 1)
        assert len(world.state(f"{ONE.name}-4").steps) == 2

    def test_one_that_was_taken_back_is_judged_when_it_is_wanted_again(self) -> None:
        world = serving(2, policy={"rollback_window": 2})
        world.asked[SECOND] = Intents(undo=True)
        live(world)
        world.wanted = Wanted(TWO, ONE, retry=1)
        live(world)
        assert len(world.state(f"{TWO.name}-3").steps) == 2

    def test_without_a_window_all_are_judged(self) -> None:
        world = serving(2)
        want(world, 1)
        assert len(world.state(f"{ONE.name}-3").steps) == 2


class TestHoldBack:
    def test_it_ends_after_its_time(self) -> None:
        world = serving(2, policy={"hold_back_for": timedelta(minutes=30)})
        controller = world.controller()
        for minute in range(60):
            controller.tick()
            over = world.now - (world.state(SECOND).in_force_at or 0) >= 1800
            assert (world.routes[-1].weight, ONE.name in world.arms) == ((0, False) if over else (99, True)), minute
            world.visit()
        assert (world.routes[-1].stable, world.memory.stable) == (TWO.name, TWO)

    def test_an_undo_after_its_end_has_a_number_of_its_own(self) -> None:
        world = serving(2, policy={"hold_back_for": timedelta(minutes=1)})
        world.visit()
        live(world)
        world.asked[SECOND] = Intents(undo=True)
        live(world)
        assert (world.routes[-2].stable, world.routes[-1].stable) == (TWO.name, ONE.name)
        assert world.routes[-1].number == world.routes[-2].number + 1

    def test_its_arm_is_kept_up_although_the_rollout_was_deleted(self) -> None:
        world = serving(2)
        del world.specs[SECOND], world.states[SECOND]
        world.arms.clear()
        world.controller().tick()
        assert (world.routes[-1].weight, set(world.arms)) == (99, {ONE.name, TWO.name})

    def test_without_a_time_it_lasts_until_the_next_rollout(self) -> None:
        world = serving(2)
        world.now += 400 * 86_400
        world.controller().tick()
        assert (world.routes[-1].weight, ONE.name in world.arms) == (99, True)
