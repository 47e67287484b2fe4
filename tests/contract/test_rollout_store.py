"""What every store of rollouts must do: the folder of one machine and the one in memory that other tests trust."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serinus.core.errors import Conflict, DataError, NotFound
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.ports import RolloutStore
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import Act, RolloutState
from serinus.core.words import Phase
from serinus.rollout.local_store import LocalRollouts
from tests.disks import FullDisk
from tests.unit.rollout.fakes import ONE, SECOND, START, THREE, TWO, People, World

MakeStore = Callable[[], RolloutStore]


@pytest.fixture(params=["memory", "local"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """A store of each kind over one place; called again, another process's view of it."""
    world = World()
    if request.param == "memory":
        return lambda: People(world)
    return lambda: LocalRollouts(tmp_path / "rollouts")


def spec(name: str = TWO.name, at: float = START) -> RolloutSpec:
    made = World().make(Wanted(TWO, ONE), ONE)
    return made.model_copy(update={"name": name, "created_at": at})


def full_state() -> RolloutState:
    """The end of a whole rollout: every field has something in it."""
    world = World()
    controller = world.controller()
    for wanted in [Wanted(ONE, ONE)] + [Wanted(TWO, ONE)] * 20:
        world.wanted = wanted
        controller.tick()
        world.visit()
    state = world.state(SECOND)
    assert state.phase is Phase.PROMOTED
    assert state.log
    assert state.crossed
    assert state.readings
    return state.changed(name=TWO.name, pending={Act.ROUTE: "not yet", Act.REMOVE: ""})


def test_a_rollout_is_read_as_it_was_made(make_store: MakeStore) -> None:
    make_store().create(spec())
    assert make_store().spec(TWO.name) == spec()
    assert make_store().state(TWO.name) == RolloutState.first(spec())
    assert make_store().intents(TWO.name) == Intents()


def test_a_name_is_given_once(make_store: MakeStore) -> None:
    make_store().create(spec())
    with pytest.raises(Conflict):
        make_store().create(spec().model_copy(update={"seed": 99}))
    assert make_store().spec(TWO.name) == spec()


def test_names_are_in_the_order_of_making(make_store: MakeStore) -> None:
    assert make_store().names() == []
    for name, at in (("b", 3.0), ("c", 1.0), ("a", 2.0), ("z", 2.0)):
        make_store().create(spec(name, at))
    assert make_store().names() == ["c", "a", "z", "b"]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.spec("x"),
        lambda store: store.state("x"),
        lambda store: store.intend("x", lambda intents: intents),
        lambda store: store.save(RolloutState.first(spec("x")), RolloutState.first(spec("x"))),
    ],
    ids=["spec", "state", "intend", "save"],
)
def test_what_was_never_made_is_not_found(make_store: MakeStore, call: Callable[[RolloutStore], object]) -> None:
    store = make_store()
    store.create(spec())
    with pytest.raises(NotFound):
        call(store)
    assert store.names() == [TWO.name]


def test_a_state_comes_back_whole(make_store: MakeStore) -> None:
    make_store().create(spec())
    state = full_state()
    make_store().save(state, RolloutState.first(spec()))
    assert make_store().state(TWO.name) == state


def test_a_state_is_saved_only_over_the_one_it_was_made_from(make_store: MakeStore) -> None:
    """Of two engines that read the same, the second is told; what the first wrote stays."""
    make_store().create(spec())
    one, other = make_store(), make_store()
    first = one.state(TWO.name)
    assert other.state(TWO.name) == first
    mine = first.changed(phase=Phase.DEPLOYING)
    one.save(mine, first)
    with pytest.raises(Conflict):
        other.save(first.changed(phase=Phase.ABORTED), first)
    assert other.state(TWO.name) == mine
    acted = mine.changed(looks=1)
    other.save(acted, mine)
    with pytest.raises(Conflict):
        one.save(mine.changed(looks=1, reason="late"), mine)
    assert one.state(TWO.name) == acted


def test_intents_are_apart_from_the_state(make_store: MakeStore) -> None:
    make_store().create(spec())
    before = make_store().state(TWO.name)
    paused = make_store().intend(TWO.name, lambda intents: intents.model_copy(update={"paused": True}))
    assert paused == Intents(paused=True)
    both = make_store().intend(TWO.name, lambda intents: intents.model_copy(update={"approved": (2,)}))
    assert both == make_store().intents(TWO.name) == Intents(paused=True, approved=(2,))
    assert make_store().state(TWO.name) == before


def test_rollouts_do_not_meet(make_store: MakeStore) -> None:
    store = make_store()
    for name, at in ((TWO.name, 1.0), (THREE.name, 2.0)):
        store.create(spec(name, at))
    first = store.state(TWO.name)
    store.save(first.changed(phase=Phase.ABORTED), first)
    store.intend(TWO.name, lambda intents: intents.model_copy(update={"abort": True}))
    assert store.state(THREE.name).phase is Phase.QUEUED
    assert store.intents(THREE.name) == Intents()


class TestLocal:
    """What the folder must do besides."""

    def test_wishes_of_many_people_at_once_are_all_kept(self, tmp_path: Path) -> None:
        LocalRollouts(tmp_path).create(spec())

        def approve(number: int) -> None:
            def add(intents: Intents) -> Intents:
                return intents.model_copy(update={"approved": (*intents.approved, number)})

            LocalRollouts(tmp_path).intend(TWO.name, add)

        threads = [threading.Thread(target=approve, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = LocalRollouts(tmp_path).intents(TWO.name).approved
        assert sorted(found) == list(range(12))

    def test_a_write_that_fails_leaves_what_was(self, tmp_path: Path) -> None:
        store = LocalRollouts(tmp_path)
        store.create(spec())
        first = store.state(TWO.name)
        broken = LocalRollouts(tmp_path, disk=FullDisk())
        with pytest.raises(OSError):
            broken.save(first.changed(looks=1), first)
        with pytest.raises(OSError):
            broken.create(spec(THREE.name))
        assert store.state(TWO.name) == first
        assert store.names() == [TWO.name]
        store.create(spec(THREE.name, START + 1))

    def test_a_file_is_parsed_once_until_somebody_replaces_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, other = (LocalRollouts(tmp_path) for _ in range(2))
        store.create(spec())
        first = store.state(TWO.name)
        read, plain = list[Path](), Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), plain(path))[1])
        for _ in range(3):
            assert store.names() == [TWO.name]
            assert store.state(TWO.name) == first
        assert read == []
        changed = first.changed(looks=first.looks + 1)
        other.save(changed, first)
        assert store.state(TWO.name) == store.state(TWO.name) == changed
        assert [path.name for path in read if path.name == "state.json"] == ["state.json"]

    def test_what_this_release_cannot_read_is_told_by_its_path(self, tmp_path: Path) -> None:
        store = LocalRollouts(tmp_path)
        store.create(spec())
        path = tmp_path / TWO.name / "state.json"
        path.write_text(RolloutState.first(spec()).model_dump_json().replace('"schema":1', '"schema":2'))
        with pytest.raises(DataError) as raised:
            store.state(TWO.name)
        assert str(path) in raised.value.headline
        assert "schema" in raised.value.cause

    def test_an_unknown_name_is_answered_with_the_known_ones(self, tmp_path: Path) -> None:
        store = LocalRollouts(tmp_path)
        store.create(spec())
        with pytest.raises(NotFound) as raised:
            store.spec("x")
        assert raised.value.hint == f"known: {TWO.name}"
