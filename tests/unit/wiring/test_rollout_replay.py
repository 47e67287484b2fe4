"""A replay begins when every arm that its route leads to answers, and says what it waits for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rollout"))
from fakes import ONE, SECOND, TWO, Arms, World

from serinus.core.errors import Unavailable
from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.memory import Wanted
from serinus.core.words import Phase
from serinus.rollout.service import ServiceView
from serinus.wiring import rollout_replay
from serinus.wiring.rollout_replay import Watchers, _started


class Slow(Arms):
    """An arm becomes ready at the third look, or says that it never will."""

    def __init__(self, world: World, failed: str = "") -> None:
        super().__init__(world)
        self.looks, self.failed = 0, failed

    def condition(self, revision: Any) -> ArmCondition:
        self.looks += 1
        if revision.name == self.failed:
            return ArmCondition(readiness=Readiness.FAILED, since=0.0, reason="no such bundle")
        if self.looks < 3:
            return ArmCondition(readiness=Readiness.STARTING, since=0.0, reason="loads its model")
        return super().condition(revision)


def host(world: World, **options: Any) -> Any:
    return SimpleNamespace(controller=world.controller(), arms=Slow(world, **options))


@pytest.fixture
def stepping() -> World:
    """A rollout in its first step, whose process was cut off."""
    world = World()
    world.controller().tick()
    world.controller().tick()
    world.wanted = Wanted(TWO, ONE)
    while SECOND not in world.states or world.state(SECOND).phase is not Phase.STEPPING:
        world.controller().tick()
    return world


def test_it_waits_for_all_arms_in_the_middle_of_a_rollout(stepping: World) -> None:
    seen: list[ServiceView] = []
    view = _started(host(stepping), Watchers(on_tick=seen.append))
    assert [one.reason for one in seen] == [f"{ONE.name}: loads its model"] * 2 + [""]
    assert view == seen[-1]


def test_an_arm_that_never_comes_is_told_with_its_last_words(stepping: World) -> None:
    with pytest.raises(Unavailable, match=f"{TWO.name} cannot start") as raised:
        _started(host(stepping, failed=TWO.name), Watchers())
    assert raised.value.cause == "no such bundle"


def test_patience_ends(stepping: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_replay, "START_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="do not come up") as raised:
        _started(host(stepping), Watchers())
    assert raised.value.cause == f"{ONE.name}: loads its model"
