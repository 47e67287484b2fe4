"""One service over its ports, in a world in memory: the first revision, rollouts in turn, kills at every call."""

from __future__ import annotations

import dataclasses

import pytest
from fakes import ONE, SECOND, THIRD, THREE, TWO, Killed, World, revision

from serinus.core.errors import Conflict
from serinus.core.rollout.memory import Wanted, rollout_name
from serinus.core.rollout.ports import Change
from serinus.core.rollout.state import Act
from serinus.core.words import Phase
from serinus.rollout.registry_sync import ROLLOUT_TAG
from serinus.rollout.service import ServiceView, Standing

WORSE = -0.6


def live(world: World, rounds: int = 40) -> ServiceView:
    """Ticks until nothing is left to decide; a killed process is followed by another one."""
    controller = world.controller()
    view: ServiceView | None = None
    for _ in range(rounds):
        try:
            view = controller.tick()
            if controller.settled():
                return view
        except Killed:
            controller = world.controller()
        world.visit()
    assert view is not None
    return view


def serving(**options: object) -> World:
    """A world in which version 1 serves and version 2 is wanted."""
    world = World(**options)  # type: ignore[arg-type]
    live(world)
    world.wanted = Wanted(TWO, ONE)
    return world


def weights(world: World) -> list[tuple[str, int]]:
    """Stable revision and the candidate's weight of every route, in order."""
    return [(route.stable, route.weight) for route in world.routes]


def test_the_first_revision_serves_all_without_a_rollout() -> None:
    world = World()
    view = live(world)
    assert (view.standing, view.stable) == (Standing.SERVING, ONE)
    assert world.specs == {}
    assert weights(world) == [(ONE.name, 0)]
    assert world.champions == [1]
    assert world.managed == "service/toy"


def test_a_first_revision_that_is_not_ready_gets_no_traffic() -> None:
    world = World(broken=frozenset({ONE.name}))
    view = live(world, rounds=5)
    assert view.standing is Standing.STARTING
    assert world.routes == []
    assert world.champions == []


def test_a_good_candidate_is_promoted_and_says_who_decided() -> None:
    world = serving()
    view = live(world)
    assert view.standing is Standing.SERVING
    assert view.stable == TWO
    assert weights(world) == [(ONE.name, 0), (ONE.name, 0), (ONE.name, 0), (ONE.name, 50), (ONE.name, 99)]
    assert [route.share for route in world.routes] == [0, 0, 1.0, 0, 0]
    assert world.champions == [1, 2]
    assert world.tags[2] == {ROLLOUT_TAG: f"default/toy/{SECOND}"}
    assert set(world.arms) == {ONE.name, TWO.name}  # the hold-back


def test_a_worse_candidate_is_rolled_back_and_not_tried_again() -> None:
    world = serving(effect=WORSE)
    view = live(world)
    assert view.standing is Standing.WANTED_NOT_SERVING
    assert view.stable == ONE
    assert view.reason.startswith("rolled_back: hits is harmed")
    assert weights(world)[-1] == (ONE.name, 0)
    assert max(weight for _, weight in weights(world)) == 0  # shadow was enough
    assert world.champions == [1]
    assert set(world.arms) == {ONE.name}
    before = dict(world.states)
    live(world, rounds=3)
    assert world.states == before
    world.wanted = dataclasses.replace(world.wanted, retry=1)
    world.effect = 0.0
    assert live(world).stable == TWO
    assert list(world.specs) == [SECOND, f"{TWO.name}-3"]


def test_a_candidate_that_never_becomes_ready_is_refused_and_no_route_is_touched() -> None:
    world = serving(broken=frozenset({TWO.name}))
    routes = len(world.routes)
    view = live(world)
    assert view.standing is Standing.WANTED_NOT_SERVING
    assert "rolled_back" in view.reason
    assert {weight for _, weight in weights(world)[routes:]} == {0}
    assert all(not route.canary for route in world.routes[routes:])
    assert set(world.arms) == {ONE.name}


def test_the_hold_back_ends_before_the_next_rollout_begins() -> None:
    world = serving()
    live(world)
    assert world.routes[-1].weight == 99
    world.wanted = Wanted(THREE, ONE)
    assert live(world).stable == THREE
    after = [route for route in world.routes if THREE.name in (route.stable, route.canary) or route.rollout == THIRD]
    assert (after[0].stable, after[0].canary, after[0].weight) == (TWO.name, "", 0)
    assert ONE.name not in world.arms
    assert all(len({route.stable, route.canary} - {""}) <= 2 for route in world.routes)


def test_a_queued_revision_waits_for_the_end_and_meets_the_new_stable_one() -> None:
    world = serving(policy={"on_supersede": "queue"})
    controller = world.controller()
    for _ in range(2):
        controller.tick()
    world.wanted = Wanted(THREE, ONE)
    assert live(world).stable == THREE
    assert list(world.specs) == [SECOND, THIRD]
    assert world.controller()._ports.store.spec(THIRD).stable == TWO  # not the one that it waited beside


def test_a_newer_revision_replaces_one_that_is_under_way() -> None:
    world = serving(policy={"on_supersede": "replace"})
    controller = world.controller()
    for _ in range(3):
        controller.tick()
    world.wanted = Wanted(THREE, ONE)
    assert live(world).stable == THREE
    assert world.state(SECOND).phase is Phase.SUPERSEDED
    assert world.champions == [1, 3]


@pytest.mark.parametrize("days", [1, 400])
def test_a_clock_that_was_set_back_does_not_reorder_rollouts(days: int) -> None:
    """The last promoted one serves; by times alone it would be the one that was made while the clock was ahead."""
    world = serving()
    assert live(world).stable == TWO
    world.now -= days * 86_400.0
    world.wanted = Wanted(THREE, ONE)
    view = live(world)
    assert (view.standing, view.stable, world.champions) == (Standing.SERVING, THREE, [1, 2, 3])
    assert [one.stable for one in map(world.controller()._ports.store.spec, world.specs)] == [ONE, TWO]
    assert live(world).stable == THREE


def test_a_rejected_revision_counts_as_tried() -> None:
    world = serving(policy={"on_supersede": "reject"})
    controller = world.controller()
    for _ in range(3):
        controller.tick()
    world.wanted = Wanted(THREE, ONE)
    view = live(world)
    assert view.stable == TWO
    assert view.standing is Standing.WANTED_NOT_SERVING
    assert "rejected" in view.reason
    world.wanted = Wanted(THREE, ONE, retry=1)
    assert live(world).stable == THREE


def test_the_time_in_which_nobody_ticked_is_not_the_candidates() -> None:
    world = World(broken=frozenset({TWO.name}))
    live(world)
    world.wanted = Wanted(TWO, ONE)
    world.controller().tick()
    world.now += 3_600
    world.conditions.clear()  # another process knows how an arm is since it asked first
    controller = world.controller()
    assert controller.tick().standing is Standing.ROLLING_OUT
    world.broken = frozenset()
    controller.tick()
    assert world.state(SECOND).phase is Phase.STEPPING


@pytest.mark.parametrize("policy", ["queue", "reject"])
def test_a_wish_that_comes_back_to_what_is_under_way_is_no_other_try(policy: str) -> None:
    world = World(effect=-0.5, policy={"on_supersede": policy})
    live(world)
    controller = world.controller()
    for wish in (TWO, TWO, THREE, TWO):
        world.wanted = Wanted(wish, ONE)
        view = controller.tick()
    assert rollout_name(world.memory, world.wanted) == SECOND
    view = live(world)
    assert view.reason == "rolled_back: hits is harmed (shadow)"
    assert [one for one in world.specs if one.startswith(TWO.name)] == [SECOND]
    world.wanted = Wanted(TWO, ONE, retry=1)
    live(world)
    assert len([one for one in world.specs if one.startswith(TWO.name)]) == 2


def test_another_template_is_another_revision() -> None:
    world = serving()
    live(world)
    world.wanted = Wanted(revision(2, "x"), ONE)
    assert live(world).stable == revision(2, "x")
    assert world.champions == [1, 2]  # the same version


def test_what_the_route_reaches_is_known_at_every_moment() -> None:
    """A process that goes on where another was cut off waits for these arms before it lets anybody call them."""
    world = World()
    controller = world.controller()
    assert controller.reached() == []
    live(world)
    assert controller.reached() == [ONE]
    world.wanted = Wanted(TWO, ONE)
    seen = set()
    for _ in range(30):
        view = controller.tick()
        route = world.routes[-1]
        names = ({route.stable} if route.weight < 100 else set()) | ({route.canary} if route.canary else set())
        assert {one.name for one in controller.reached()} == names | {view.stable.name if view.stable else ""}
        seen.add(frozenset(names))
        world.visit()
    assert seen == {frozenset({ONE.name}), frozenset({ONE.name, TWO.name})}


def test_of_two_engines_one_is_told() -> None:
    world = serving()
    one, other = world.controller(), world.controller()
    one.tick()
    token = one.engine.begin().snapshot.token
    assert other.tick().rollout is not None
    with pytest.raises(Conflict):
        one._ports.store.save(Change(state=world.state(SECOND).changed(looks=99)), token)


@pytest.mark.parametrize("kill_after", [False, True])
@pytest.mark.parametrize("effect", [0.0, WORSE])
def test_killed_at_any_call_the_next_process_comes_to_the_same_end(effect: float, kill_after: bool) -> None:
    """From nothing to the end of the first rollout; every call of every port, before it and after it."""

    def play(kill_at: int) -> World:
        world = World(effect=effect, kill_at=kill_at, kill_after=kill_after)
        live(world)
        world.wanted = Wanted(TWO, ONE)
        live(world)
        return world

    whole = play(-1)
    expected = whole.state(SECOND)
    assert expected.phase is (Phase.ROLLED_BACK if effect else Phase.PROMOTED)
    assert whole.calls > 20
    for number in range(whole.calls):
        world = play(number)
        state = world.state(SECOND)
        assert (state.phase, state.decided_by, state.decided_in) == (
            expected.phase,
            expected.decided_by,
            expected.decided_in,
        ), number
        assert state.pending == {}
        assert world.routes[-1].model_dump(exclude={"number"}) == whole.routes[-1].model_dump(exclude={"number"})
        assert _folded(weights(world)) == _folded(weights(whole))
        assert world.champions == whole.champions
        assert world.tags == whole.tags
        assert set(world.arms) == set(whole.arms)


def _folded(routes: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Without repeats in a row."""
    return [one for place, one in enumerate(routes) if place == 0 or routes[place - 1] != one]


def test_an_arm_that_is_slow_to_end_holds_up_nothing() -> None:
    """It is told again in each tick, and forgotten once it is gone."""
    world = serving(policy={"hold_back": 0}, busy=frozenset({ONE.name}))
    view = world.controller().tick()
    for _ in range(12):
        world.visit()
        view = world.controller().tick()
    assert (view.standing, view.stable) == (Standing.SERVING, TWO)
    assert world.state(SECOND).pending == {Act.REMOVE: "it answers what it took"}
    assert ONE.name in world.arms
    world.busy = frozenset()
    world.controller().tick()
    assert (world.state(SECOND).pending, set(world.arms)) == ({}, {TWO.name})
