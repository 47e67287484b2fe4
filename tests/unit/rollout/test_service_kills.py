"""Whole lives of a service, killed before and after every call of every port: nothing is lost, nothing done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import ONE, SECOND, THIRD, THREE, TWO, Killed, World

from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.spec import Intents
from serinus.core.words import Phase
from serinus.rollout.service import ServiceController


class Life:
    """Ticks of one service after another; a process that was killed is followed by another one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.controller: ServiceController = world.controller()

    def tick(self) -> None:
        self._alive(lambda: self.controller.tick())

    def settled(self) -> bool:
        return self._alive(lambda: self.controller.settled())

    def _alive(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Killed:
            self.controller = self.world.controller()
            return ask()

    def settle(self, rounds: int = 40) -> None:
        for _ in range(rounds):
            self.tick()
            if self.settled():
                return
            self.world.visit()
        raise AssertionError("it never settled")

    def until(self, name: str, phase: Phase) -> None:
        for _ in range(20):
            self.tick()
            if name in self.world.states and self.world.state(name).phase is phase:
                return
            self.world.visit()
        raise AssertionError(f"{name} never was {phase}")


def _promoted(life: Life) -> None:
    life.settle()
    life.world.wanted = Wanted(TWO, ONE)
    life.settle()


def _two_in_turn(life: Life) -> None:
    _promoted(life)
    life.world.wanted = Wanted(THREE, ONE)
    life.settle()


def _newer_while_stepping(life: Life) -> None:
    life.settle()
    life.world.wanted = Wanted(TWO, ONE)
    life.until(SECOND, Phase.STEPPING)
    life.world.wanted = Wanted(THREE, ONE)
    life.settle()


def _aborted(life: Life) -> None:
    life.settle()
    life.world.wanted = Wanted(TWO, ONE)
    life.until(SECOND, Phase.STEPPING)
    life.world.asked[SECOND] = Intents(abort=True)
    life.settle()


# Each with the options of its world, and how its rollouts end.
Play = Callable[[Life], None]
LIVES: dict[str, tuple[Play, dict[str, Any], dict[str, Phase]]] = {
    "promoted, no hold-back": (_promoted, {"policy": {"hold_back": 0}}, {SECOND: Phase.PROMOTED}),
    "refused": (_promoted, {"broken": frozenset({TWO.name})}, {SECOND: Phase.ROLLED_BACK}),
    "two in turn": (_two_in_turn, {}, {SECOND: Phase.PROMOTED, THIRD: Phase.PROMOTED}),
    "queued": (_newer_while_stepping, {}, {SECOND: Phase.PROMOTED, THIRD: Phase.PROMOTED}),
    "replaced": (
        _newer_while_stepping,
        {"policy": {"on_supersede": "replace"}},
        {SECOND: Phase.SUPERSEDED, THIRD: Phase.PROMOTED},
    ),
    "rejected": (
        _newer_while_stepping,
        {"policy": {"on_supersede": "reject"}},
        {SECOND: Phase.PROMOTED, THIRD: Phase.SUPERSEDED},
    ),
    "aborted": (_aborted, {}, {SECOND: Phase.ABORTED}),
}


@pytest.mark.parametrize("kill_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", LIVES)
def test_killed_at_any_call_a_service_lives_the_same_life(name: str, kill_after: bool) -> None:
    play, options, ends = LIVES[name]

    def lived(kill_at: int) -> World:
        world = World(**options, kill_at=kill_at, kill_after=kill_after)
        play(Life(world))
        return world

    whole = lived(-1)
    assert {one: whole.state(one).phase for one in whole.states} == ends
    for number in range(whole.calls):
        world = lived(number)
        assert world.calls > number, "this kill never happened"
        assert {one: world.state(one).phase for one in world.states} == ends, number
        assert not any(world.state(one).pending for one in world.states), number
        assert _told(world) == _told(whole), number


def _told(world: World) -> dict[str, Any]:
    """What the outside saw: routes in order (each once), arms that run, champions in order, tags, numbers of looks."""
    routes = [(one.rollout, one.stable, one.canary, one.mode, one.weight, one.share, one.seed) for one in world.routes]
    return {
        "routes": [one for place, one in enumerate(routes) if place == 0 or routes[place - 1] != one],
        "arms": set(world.arms),
        "champions": world.champions,
        "tags": world.tags,
        "steps": {name: [one.kind for one in world.state(name).steps] for name in world.states},
        "ends": {name: world.state(name).reason for name in world.states},
    }


def test_a_refused_candidate_never_is_in_a_route() -> None:
    world = World(broken=frozenset({TWO.name}))
    _promoted(Life(world))
    assert "not ready within" in world.state(SECOND).reason
    assert {one.canary for one in world.routes} == {""}
    assert {one.stable for one in world.routes} == {ONE.name}


def test_a_hold_back_that_died_is_brought_back() -> None:
    """One in a hundred callers is still answered by the old revision."""
    life = Life(World())
    _promoted(life)
    del life.world.arms[ONE.name]
    life.tick()
    assert set(life.world.arms) == {ONE.name, TWO.name}


def test_the_hold_back_is_watched_beside_a_revision_that_was_rejected() -> None:
    life = Life(World(policy={"on_supersede": "reject"}))
    _newer_while_stepping(life)
    del life.world.arms[ONE.name]
    looks = life.world.state(SECOND).looks
    life.world.looks[SECOND].append(life.world._look(looks + 1, 1))
    life.tick()
    assert set(life.world.arms) == {ONE.name, TWO.name}
    assert life.world.state(SECOND).looks == looks + 1


def _ended_and_not_acted_on() -> World:
    """A process that was killed between the write of a rollback and its first action."""
    for number in range(60):
        world = World(effect=-0.6, policy={"on_supersede": "reject"}, kill_at=number)
        controller = world.controller()
        for wanted in [Wanted(ONE, ONE)] * 2 + [Wanted(TWO, ONE)] * 12:
            world.wanted = wanted
            try:
                controller.tick()
            except Killed:
                break
            world.visit()
        state = world.state(SECOND) if SECOND in world.states else None
        if state is not None and state.phase.ended and state.pending:
            return world
    raise AssertionError("no kill fell between")


def test_a_rollout_that_has_ended_rejects_nobody() -> None:
    """It is finished first; what is wanted by then is new."""
    world = _ended_and_not_acted_on()
    assert TWO.name in world.arms
    world.effect, world.wanted = 0.0, Wanted(THREE, ONE)
    Life(world).settle()
    assert {name: world.state(name).phase for name in world.states} == {
        SECOND: Phase.ROLLED_BACK,
        THIRD: Phase.PROMOTED,
    }
    assert TWO.name not in world.arms
