"""What a service remembers: it serves what is wanted each time it is, and pruning its rollouts moves nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import ONE, SECOND, THIRD, THREE, TWO, World, revision

from serinus.core.rollout.memory import ServiceMemory, Wanted, recalled
from serinus.core.rollout.ports import Pending
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout.local_service import LocalService
from serinus.rollout.local_store import LocalRollouts
from serinus.rollout.service import ServiceView, Standing

WORSE = -0.6


def live(world: World, rounds: int = 40) -> ServiceView:
    """Ticks of one new process until nothing is left to decide."""
    controller = world.controller()
    for _ in range(rounds):
        view = controller.tick()
        if controller.settled():
            return view
        world.visit()
    raise AssertionError("it never settled")


def want(world: World, number: int, retry: int = 0) -> ServiceView:
    """Another version is wanted, until it serves or was refused."""
    world.wanted = Wanted(revision(number), ONE, retry)
    return live(world)


def prune(world: World) -> None:
    """Somebody deletes every rollout."""
    for names in (world.specs, world.states, world.asked):
        names.clear()


def answered(world: World) -> tuple[str, str, int]:
    """Who answers: by the route that is in force."""
    route = world.routes[-1]
    return route.stable, route.canary, route.weight


def test_a_version_is_served_each_time_it_is_wanted() -> None:
    world = World()
    live(world)
    for change, number in enumerate((2, 1, 2, 1), 2):
        view = want(world, number)
        assert (view.standing, view.stable) == (Standing.SERVING, revision(number))
        assert world.state(f"{revision(number).name}-{change}").phase is Phase.PROMOTED
    assert world.champions == [1, 2, 1, 2, 1]
    assert world.memory.tries == {TWO.name: 2, ONE.name: 2}


def test_what_was_refused_is_tried_again_only_when_the_wish_changes() -> None:
    world = World(effect=WORSE)
    live(world)
    assert want(world, 2).reason.startswith("rolled_back: hits is harmed")
    assert live(world).stable == ONE
    assert list(world.specs) == [SECOND]
    assert want(world, 1).standing is Standing.SERVING
    world.effect = 0.0
    assert want(world, 2).stable == TWO
    assert list(world.specs) == [SECOND, f"{TWO.name}-4"]


def test_pruned_rollouts_move_nobody_and_what_was_refused_stays_so() -> None:
    world = World()
    live(world)
    want(world, 2)
    world.effect = WORSE
    want(world, 3)
    world.controller().tick()
    before, routes = world.memory, len(world.routes)
    prune(world)
    for _ in range(3):
        view = world.controller().tick()
        assert (view.standing, view.stable) == (Standing.WANTED_NOT_SERVING, TWO)
        assert view.reason.startswith("rolled_back: hits is harmed")
        world.visit()
    assert (world.memory, len(world.routes), world.specs) == (before, routes, {})
    assert world.champions == [1, 2]
    world.effect = 0.0
    assert want(world, 3, retry=1).stable == THREE


def test_a_hold_back_whose_rollout_was_pruned_ends_with_the_next_one() -> None:
    world = World()
    live(world)
    want(world, 2)
    assert answered(world) == (ONE.name, TWO.name, 99)
    prune(world)
    world.controller().tick()
    assert answered(world) == (ONE.name, TWO.name, 99)
    assert want(world, 3).stable == THREE
    assert ONE.name not in world.arms


@pytest.mark.parametrize("ticks", range(1, 8))
def test_deleting_a_rollout_that_lives_aborts_it(ticks: int) -> None:
    """At any moment of its life, by anybody; what it brought is not tried again, and nothing of it is left."""
    world = World()
    live(world)
    world.wanted = Wanted(TWO, ONE)
    controller = world.controller()
    for _ in range(ticks):
        controller.tick()
        world.visit()
    decided = world.state(SECOND)
    prune(world)
    view = live(world)
    if decided.phase is Phase.PROMOTED and not decided.pending:
        assert (view.stable, world.champions) == (TWO, [1, 2])
        return
    assert (view.standing, view.stable) == (Standing.WANTED_NOT_SERVING, ONE)
    assert view.reason == "aborted: deleted while it was under way"
    assert answered(world) == (ONE.name, "", 0)
    assert (set(world.arms), world.specs) == ({ONE.name}, {})
    assert want(world, 2, retry=1).stable == TWO


def test_traffic_of_a_deleted_rollout_goes_back_although_the_splitter_is_slow() -> None:
    world = World()
    live(world)
    world.wanted = Wanted(TWO, ONE)
    controller = world.controller()
    while world.routes[-1].weight != 50:
        controller.tick()
        world.visit()
    prune(world)
    world.answers = lambda route: Pending("not yet")
    controller.tick()
    controller = world.controller()
    controller.tick()
    assert (world.routes[-1].weight, set(world.arms)) == (50, {ONE.name, TWO.name}), "the arm goes after its traffic"
    world.answers = lambda route: None
    controller.tick()
    assert (answered(world), set(world.arms)) == ((ONE.name, "", 0), {ONE.name})


def test_a_promotion_is_remembered_before_it_counts_as_done() -> None:
    """Whenever the state says that nothing is left to do, the memory says who serves."""
    world = World()
    live(world)
    world.wanted = Wanted(TWO, ONE)
    controller = world.controller()
    for _ in range(12):
        controller.tick()
        world.visit()
        state = world.state(SECOND)
        promoted = state.phase is Phase.PROMOTED and not state.pending
        assert (world.memory.stable == TWO) is promoted
    assert world.memory.stable == TWO
    assert world.memory.decided is not None
    assert (world.memory.decided.rollout, world.memory.decided.before) == (SECOND, ONE)


def test_the_whole_route_in_force_is_remembered() -> None:
    world = World()
    controller = world.controller()
    world.wanted = Wanted(TWO, ONE)
    for _ in range(12):
        controller.tick()
        assert world.memory.route == (world.routes[-1] if world.routes else None)
        world.visit()


class TestFromAnEarlierRelease:
    """It knew the first revision, and guessed from the rollouts."""

    @staticmethod
    def _left(world: World, *numbers: int) -> list[tuple[object, RolloutState]]:
        live(world)
        for number in numbers:
            want(world, number)
        return [(world.controller()._ports.store.spec(name), world.state(name)) for name in world.specs]

    def test_who_serves_is_who_was_promoted_last(self) -> None:
        world = World()
        left = self._left(world, 2)
        world.effect = WORSE
        want(world, 3)
        left.append((world.controller()._ports.store.spec(THIRD), world.state(THIRD)))
        found = recalled(ONE, left, world.wanted)  # type: ignore[arg-type]
        assert (found.stable, found.previous) == (TWO, (ONE,))
        assert [one.revision for one in found.refused] == [THREE.name]
        world.remembered = found.model_dump_json()
        assert live(world).standing is Standing.WANTED_NOT_SERVING
        assert set(world.specs) == {SECOND, THIRD}

    def test_its_files_are_read_once(self, tmp_path: Path) -> None:
        first, path = tmp_path / "first.json", tmp_path / "memory.json"
        service = LocalService(path, first, LocalRollouts(tmp_path / "rollouts"), lambda: Wanted(ONE, ONE))
        assert service.memory() == ServiceMemory()
        first.write_text(ONE.model_dump_json())
        assert service.memory().stable == ONE
