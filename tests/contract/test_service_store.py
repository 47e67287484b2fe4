"""What every store of a service must do: one snapshot with a token, and nothing written or done over an old one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serinus.core.errors import Conflict
from serinus.core.rollout.memory import ServiceMemory, Wanted
from serinus.core.rollout.ports import Change, ServiceStore
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout.local_service import LocalService
from serinus.rollout.local_store import LocalRollouts
from tests.unit.rollout.fakes import ONE, THREE, TWO, People, Store, World


@dataclass
class Place:
    """One service: `store` makes another process's view of it."""

    store: Callable[[], ServiceStore]
    people: Callable[[], People | LocalRollouts]
    wish: Callable[[Wanted], None]


@dataclass
class Wish:
    """What is wanted, as a file would say it."""

    now: Wanted = field(default_factory=lambda: Wanted(TWO, ONE))

    def ask(self, wanted: Wanted) -> None:
        self.now = wanted


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        world = World(wanted=Wanted(TWO, ONE))
        return Place(lambda: Store(world), lambda: People(world), lambda wanted: setattr(world, "wanted", wanted))
    wish = Wish()
    return Place(lambda: local(tmp_path, wish), lambda: LocalRollouts(tmp_path / "rollouts"), wish.ask)


def local(folder: Path, wish: Wish) -> LocalService:
    """A process's view of a service on this machine."""
    rollouts = LocalRollouts(folder / "rollouts")
    return LocalService(folder / "memory.json", folder / "first.json", rollouts, lambda: wish.now)


def spec(name: str = TWO.name, later: float = 0.0) -> RolloutSpec:
    made = World().make(Wanted(TWO, ONE), ONE, name)
    return made.model_copy(update={"created_at": made.created_at + later})


SERVES = ServiceMemory(stable=ONE, asked="x", change=3)


def test_a_service_that_was_never_ticked_remembers_nothing(place: Place) -> None:
    found = place.store().load()
    assert (found.memory, found.wanted, found.rollouts) == (ServiceMemory(), Wanted(TWO, ONE), ())


def test_everything_comes_back_as_it_was_written(place: Place) -> None:
    token = place.store().load().token
    state = RolloutState.first(spec()).changed(phase=Phase.DEPLOYING, started_at=5.0)
    change = Change(made=spec(), state=state, intents=(TWO.name, Intents(superseded_by="x")), memory=SERVES)
    token = place.store().save(change, token)
    found = place.store().load()
    assert (found.token, found.memory) == (token, SERVES)
    (stored,) = found.rollouts
    assert (stored.spec, stored.state, stored.intents) == (spec(), state, Intents(superseded_by="x"))
    assert found.rollout(TWO.name) == stored
    assert found.rollout("other") is None


def test_what_a_snapshot_is_after_a_change_is_what_is_read_then(place: Place) -> None:
    store = place.store()
    before = store.load()
    for change in (
        Change(made=spec(), memory=SERVES),
        Change(state=RolloutState.first(spec()).changed(looks=3)),
        Change(made=spec(THREE.name, 1.0)),
        Change(intents=(THREE.name, Intents(superseded_by="x"))),
        Change(memory=SERVES.changed(change=4)),
    ):
        before = before.after(change, store.save(change, before.token))
        assert before == place.store().load()


CHANGES: dict[str, Callable[[Place], object]] = {
    "a person": lambda place: place.people().intend(TWO.name, lambda _: Intents(abort=True)),
    "a wish": lambda place: place.wish(Wanted(THREE, ONE)),
    "another try": lambda place: place.wish(Wanted(TWO, ONE, 1)),
    "a state": lambda place: place.people().save(
        RolloutState.first(spec()).changed(looks=1), RolloutState.first(spec())
    ),
    "a rollout": lambda place: place.people().create(spec(THREE.name)),
    "an engine": lambda place: place.store().save(Change(memory=SERVES), place.store().load().token),
}


@pytest.mark.parametrize("who", CHANGES)
def test_any_change_makes_the_token_an_old_one(place: Place, who: str) -> None:
    """It neither writes nor lets anything be done; the other's change stays."""
    place.people().create(spec())
    mine = place.store()
    token = mine.load().token
    CHANGES[who](place)
    after = place.store().load()
    assert after.token != token
    with pytest.raises(Conflict):
        mine.save(Change(memory=SERVES.changed(change=9)), token)
    with pytest.raises(Conflict), mine.fence(token):
        raise AssertionError("nothing may be done")
    assert place.store().load() == after


def test_a_write_inside_of_a_fence_is_the_holders_own(place: Place) -> None:
    store = place.store()
    token = store.load().token
    with store.fence(token):
        token = store.save(Change(memory=SERVES), token)
    with store.fence(token):
        pass
    assert place.store().load().memory == SERVES


def test_people_wait_while_an_act_is_fenced(tmp_path: Path) -> None:
    wish = Wish()
    store, people = local(tmp_path, wish), LocalRollouts(tmp_path / "rollouts")
    people.create(spec())
    with store.fence(store.load().token):
        asking = threading.Thread(target=lambda: people.intend(TWO.name, lambda _: Intents(abort=True)))
        asking.start()
        asking.join(0.2)
        assert asking.is_alive()
        assert people.intents(TWO.name) == Intents()
    asking.join(10.0)
    assert people.intents(TWO.name).abort


SLEEPER = """
import os, signal, sys, time
from contextlib import suppress
from pathlib import Path
from serinus.core.errors import Conflict
from serinus.core.rollout.ports import Change
from serinus.rollout.tick import Limit, Tick
from tests.contract.test_service_store import Wish, local, spec

folder = Path(sys.argv[1])
tick = Tick(local(folder, Wish()), Limit(seconds=1.0))
os.kill(os.getpid(), signal.SIGSTOP)
refused = 0
for work in (lambda: tick.remember(tick.memory.changed(change=99)), lambda: acted(tick)):
    try:
        work()
    except Conflict:
        refused += 1
sys.exit(refused)
"""
ACTED = """
def acted(tick):
    with tick.fenced():
        (folder / "acted").touch()
"""


@pytest.mark.parametrize(("asked", "seconds", "refused"), [(True, 0.0, 2), (False, 1.5, 2), (False, 0.0, 0)])
def test_a_process_that_was_stopped_changes_nothing_after_waking(
    tmp_path: Path, asked: bool, seconds: float, refused: int
) -> None:
    """By a real SIGSTOP: an abort meanwhile, or only time; one that slept for a moment goes on."""
    people = LocalRollouts(tmp_path / "rollouts")
    people.create(spec())
    root = str(Path(__file__).parents[2])
    program = SLEEPER.replace("\nfolder =", f"\n{ACTED}\nfolder =")
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, env=os.environ | {"PYTHONPATH": root}
    )
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        if asked:
            people.intend(TWO.name, lambda _: Intents(abort=True))
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGCONT)
        assert child.wait(30) == refused
    finally:
        child.poll() is None and child.kill()
    assert (tmp_path / "acted").exists() is (refused == 0)
    assert (tmp_path / "memory.json").exists() is (refused == 0)
