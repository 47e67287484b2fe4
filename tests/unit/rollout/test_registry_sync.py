"""What serves goes on serving whatever the registry says or does; the registry follows, and what it lacks is told."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes import ONE, SECOND, START, THREE, TOY, TWO, Registry, World

from serinus.core.errors import Conflict, NotFound, Unavailable
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion
from serinus.core.rollout.memory import Wanted
from serinus.core.words import Phase
from serinus.rollout.registry_sync import (
    CHECK_SECONDS,
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    ROLLOUT_TAG,
    InService,
    RegistrySync,
    Synced,
    version_of,
)
from serinus.rollout.service import ServiceView, Standing

FAULTS = [
    NotFound("version 2 of toy does not exist"),
    Unavailable("MLflow does not answer"),
    Conflict("MLflow refuses that"),
    ValueError("it answered <html>"),
    RuntimeError("an experiment that was deleted"),
]


def live(world: World, rounds: int = 40) -> ServiceView:
    controller = world.controller()
    for _ in range(rounds):
        view = controller.tick()
        if controller.settled():
            return view
        world.visit()
    raise AssertionError("it never settled")


@pytest.mark.parametrize("call", ["versions", "manage", "promote", "tag"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_rollout_lives_its_life_whatever_the_registry_raises(call: str, fault: Exception) -> None:
    world = World(fault_of={call: fault})
    assert live(world).standing is Standing.SERVING
    world.wanted = Wanted(TWO, ONE)
    view = live(world)
    assert (view.standing, view.stable, world.routes[-1].weight) == (Standing.SERVING, TWO, 99)
    assert world.state(SECOND).pending == {}
    assert view.registry is not None
    assert (view.registry.holds, view.registry.revision) == (False, TWO.name)
    assert str(fault) in view.registry.reason
    world.fault_of.clear()
    world.now += RETRY_SECONDS
    healed = world.controller().tick().registry
    assert healed is not None
    assert healed.holds
    assert world.champions[-1] == 2
    assert world.told[-1] == healed


@pytest.mark.parametrize("when", [Phase.QUEUED, Phase.STEPPING, Phase.PROMOTED])
def test_a_version_deleted_while_its_rollout_lives_is_told_and_serves(when: Phase) -> None:
    world = World()
    live(world)
    world.wanted = Wanted(TWO, ONE)
    controller = world.controller()
    while when is not Phase.QUEUED and (SECOND not in world.states or world.state(SECOND).phase is not when):
        controller.tick()
        world.visit()
    world.deleted.add(2)
    world.now += CHECK_SECONDS
    for _ in range(2):  # the second is another process
        view = live(world)
        assert (view.standing, view.stable) == (Standing.SERVING, TWO)
        assert view.registry is not None
        assert not view.registry.holds
        assert "version 2 of toy was deleted from the registry" in view.registry.reason
        assert "serinus model restore toy 2" in view.registry.hint
    world.wanted = Wanted(THREE, ONE)
    after = live(world).registry
    assert after is not None
    assert after.holds
    assert world.champions[-1] == 3


def test_a_bundle_that_was_registered_again_is_the_same_one() -> None:
    world = World(deleted={2})
    live(world)
    world.wanted = Wanted(TWO, ONE)
    live(world)
    assert world.champions == [1]
    again = TWO.model_copy(update={"model": ModelRef("toy", 9)})  # its number is gone, its bundle is number 2 here
    world.deleted.clear()
    sync = RegistrySync(Registry(world), lambda _: None, lambda: world.now, run=lambda work: work())  # type: ignore[arg-type]
    assert sync.follow(InService(TOY, again, ONE)).holds
    assert world.champions == [1, 2]


def test_a_number_that_another_bundle_has_by_now_is_not_what_serves() -> None:
    """A model that was deleted as a whole numbers its versions from 1 again."""
    world = World()
    other = ONE.model_copy(update={"storage_uri": "file:///another"})
    sync = RegistrySync(Registry(world), lambda _: None, lambda: world.now, run=lambda work: work())  # type: ignore[arg-type]
    assert not sync.follow(InService(TOY, other)).holds
    assert world.champions == []


def test_what_serves_is_known_by_its_content_whatever_store_its_uri_is_relative_to() -> None:
    """A version of release 0.1 was registered with a place, and the service knows the name of that bundle by now."""
    digest, at = "ab" * 32, datetime(2026, 1, 1, tzinfo=UTC)
    known = [ModelVersion("toy", 4, "run", f"file:///old/bundles/toy/{digest}", at)]
    serves = ONE.model_copy(update={"version": "4", "storage_uri": f"bundles://home/toy/{digest}"})
    assert version_of(known, serves) == known[0]
    assert version_of(known, serves.model_copy(update={"storage_uri": f"bundles://home/toy/{'cd' * 32}"})) is None


def test_a_finding_that_a_full_disk_does_not_take_is_told_again() -> None:
    world, told, full = World(), list[Synced](), [True]

    def tell(found: Synced) -> None:
        if full.pop() if full else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        told.append(found)

    sync = RegistrySync(Registry(world), tell, lambda: world.now, run=lambda work: work())  # type: ignore[arg-type]
    assert sync.follow(InService(TOY, ONE)).holds
    assert told == []
    world.now += 3600.0
    assert sync.follow(InService(TOY, ONE)).holds
    assert [one.holds for one in told] == [True]


def test_of_two_services_of_one_model_the_first_has_the_aliases_and_the_other_says_so() -> None:
    world, told = World(), list[Synced]()

    def follower() -> RegistrySync:
        return RegistrySync(Registry(world), told.append, lambda: world.now, run=lambda work: work())  # type: ignore[arg-type]

    other = ServiceRef("shop", "toy-b")
    assert follower().follow(InService(TOY, ONE)).reason == ""
    found = follower().follow(InService(other, TWO.model_copy(update={"service": other}), ONE, "toy-b-v2-abcdef"))
    assert (found.holds, found.reason) == (True, "the aliases of toy belong to service/toy")
    assert (world.champions, world.tags, told[-1]) == ([1], {}, found)
    follower().follow(InService(TOY, TWO, ONE, SECOND))
    assert (world.champions, world.tags) == ([1, 2], {2: {ROLLOUT_TAG: f"default/toy/{SECOND}"}})


def test_a_service_that_comes_first_claims_for_the_one_that_shall_have_the_aliases() -> None:
    world, other = World(), ServiceRef("lab", "toy")
    lab = RegistrySync(
        Registry(world),  # type: ignore[arg-type]
        lambda _: None,
        lambda: world.now,
        run=lambda work: work(),
        heir=lambda _: TOY,
    )
    found = lab.follow(InService(other, ONE.model_copy(update={"service": other})))
    assert (found.holds, found.reason) == (True, "the aliases of toy belong to service/toy")
    assert (world.champions, world.managed) == ([], "service/toy")


def test_a_version_that_was_deleted_is_told_by_a_service_that_has_no_aliases_too() -> None:
    world = World(managed="service/another", deleted={2})
    sync = RegistrySync(Registry(world), lambda _: None, lambda: world.now, run=lambda work: work())  # type: ignore[arg-type]
    assert not sync.follow(InService(TOY, TWO)).holds


class Hanging:
    """Tries that are begun and do not end."""

    def __init__(self) -> None:
        self.begun: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.begun.append(work)


def test_a_registry_that_hangs_is_asked_once_and_told_of() -> None:
    world, hanging, told = World(), Hanging(), list[Any]()
    sync = RegistrySync(Registry(world), told.append, lambda: world.now, run=hanging)  # type: ignore[arg-type]
    first = sync.follow(InService(TOY, ONE))
    assert (first.holds, first.reason, told) == (False, "not asked yet", [])
    world.now += PATIENCE_SECONDS + 1
    assert sync.follow(InService(TOY, TWO)).reason == "the registry has not answered yet"
    assert len(hanging.begun) == 1
    hanging.begun.pop()()
    assert world.champions == [1]
    sync.follow(InService(TOY, TWO))
    hanging.begun.pop()()
    assert sync.follow(InService(TOY, TWO)).holds
    assert world.champions == [1, 2]


def test_a_moved_alias_is_put_back_within_the_time_between_two_checks() -> None:
    world = World()
    live(world)
    world.champions.append(3)  # by hand, in MLflow
    controller = world.controller()
    controller.tick()
    world.champions.append(3)
    controller.tick()
    assert world.champions[-1] == 3
    world.now += CHECK_SECONDS
    controller.tick()
    assert world.champions[-1] == 1


def test_a_thread_that_hangs_keeps_nobody_waiting() -> None:
    world, gate = World(), threading.Event()

    class Stuck(Registry):
        """Answers when the test lets it."""

        def manage(self, model: str, owner: str) -> str:
            gate.wait(30)
            return super().manage(model, owner)

    sync = RegistrySync(Stuck(world), lambda _: None, lambda: START)  # type: ignore[arg-type]
    sync.follow(InService(TOY, ONE))
    sync.follow(InService(TOY, TWO, ONE))
    assert world.champions == []
    gate.set()
    sync.settle(30)
    assert world.champions == [1, 2]
