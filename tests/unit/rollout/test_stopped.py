"""A process that is stopped for longer than a tick may live, at any call, does nothing to what changed meanwhile.

The one that woke up goes on with its tick: it must not write over an abort, a new wish or what another engine did, and
must not bring back a route that was taken back. Those who would change the service wait for an act that is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import ONE, SECOND, START, THREE, TWO, World

from serinus.core.errors import Conflict
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.spec import Intents
from serinus.core.words import Phase
from serinus.rollout.service import ServiceController
from serinus.rollout.tick import Limit

LIMIT = 1.0


class Stopping(World):
    """At call `stop_at` the process sleeps, and `meanwhile` happens; one that holds the service's lock ends first.

    `unread`: it slept before it read the service.
    """

    def __init__(self, stop_at: int, seconds: float, meanwhile: Callable[[World], None], *, late: bool) -> None:
        super().__init__()
        self.stop_at, self.seconds, self.meanwhile, self.late = stop_at, seconds, meanwhile, late
        self.boot, self.slept, self.calls_asleep, self.unread = 0.0, False, False, False
        self.left: Any = None
        self.entering = lambda: self.called(lambda: None)
        self.unfenced = self._wake

    def called(self, run: Callable[[], Any]) -> Any:
        mine = self.calls == self.stop_at and not self.calls_asleep
        self.calls += not self.calls_asleep
        if mine and not self.late:
            self.unread = "load" in run.__qualname__
            self._sleep()
        result = run()
        if mine and self.late:
            self._sleep()
        return result

    def _sleep(self) -> None:
        self.slept, self.boot = True, self.boot + self.seconds
        if not self.fences:
            self._wake()

    def _wake(self) -> None:
        """What had to wait for the lock, or did not."""
        if not self.slept or self.calls_asleep or self.left is not None or self.fences:
            return
        self.calls_asleep = True
        self.meanwhile(self)
        self.calls_asleep = False
        self.left = self.seen()

    def seen(self) -> Any:
        """All that an engine can change."""
        return (list(self.routes), set(self.arms), dict(self.states), dict(self.specs), self.remembered, self.asked)

    def limit(self) -> Limit:
        return Limit(LIMIT, lambda: self.boot)


def _others(world: World) -> None:
    """Another engine goes on, as long as it takes."""
    controller = world.controller()
    for _ in range(4):
        controller.tick()


def _aborted(world: World) -> None:
    for name in world.specs:
        world.asked[name] = Intents(abort=True)
    _others(world)


def _superseded(world: World) -> None:
    world.wanted = Wanted(THREE, ONE)
    _others(world)


def _only_asked(world: World) -> None:
    """A person asked, and no engine has heard it yet."""
    for name in world.specs:
        world.asked[name] = Intents(abort=True)


def _nothing(world: World) -> None:
    """Only time went by."""


MEANWHILE = {"aborted": _aborted, "superseded": _superseded, "only asked": _only_asked, "nothing": _nothing}


def _played(world: World) -> tuple[bool, ServiceController]:
    """Ticks of one process until it has slept; whether it was refused then."""
    controller = world.controller(world.limit())
    world.wanted = Wanted(ONE, ONE)
    for number in range(14):
        world.wanted = world.wanted if number != 2 else Wanted(TWO, ONE)
        try:
            controller.tick()
        except Conflict:
            return True, controller
        if world.slept:
            return False, controller
        world.visit()
    return False, controller


def _calls() -> int:
    world = Stopping(-1, 0.0, _nothing, late=False)
    _played(world)
    assert world.state(SECOND).phase is Phase.PROMOTED
    return world.calls


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", MEANWHILE)
def test_nothing_is_changed_after_waking(name: str, late: bool) -> None:
    for number in range(_calls()):
        world = Stopping(number, 2 * LIMIT, MEANWHILE[name], late=late)
        _played(world)
        assert world.slept, number
        assert world.left is not None, number
        assert world.seen() == world.left, number


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_an_abort_asked_for_meanwhile_holds_although_the_sleep_was_short(late: bool) -> None:
    """Within the time that a tick may take it is the token alone that protects."""
    for number in range(_calls()):
        world = Stopping(number, 0.0, _aborted, late=late)
        _played(world)
        assert world.unread or world.seen() == world.left, number


def test_the_next_tick_of_the_one_that_slept_goes_on_from_what_is() -> None:
    for number in range(_calls()):
        world = Stopping(number, 2 * LIMIT, _aborted, late=False)
        _, controller = _played(world)
        for _ in range(20):
            controller.tick()
            if controller.settled() and world.now > START + 600:
                break
            world.visit()
        assert world.memory.stable is not None
        assert {one.phase for one in map(world.state, world.states)} <= {Phase.ABORTED, Phase.PROMOTED}
