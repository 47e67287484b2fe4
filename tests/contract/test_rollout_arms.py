"""What arms must do, as real processes of this machine: start once, come back, say their last words, end in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from serinus.core.errors import NotFound
from serinus.core.rollout.evidence import Readiness
from serinus.core.rollout.ports import Arms, Gone, Pending
from serinus.core.rollout.spec import Revision
from serinus.rollout import local_arms
from serinus.rollout.local_arms import MOST_STARTS, STEADY_SECONDS, STOP_SECONDS, LocalArms
from tests.unit.rollout.fakes import ONE, TWO, World
from tests.unit.rollout.fakes import Arms as FakeArms

STUB = Path(__file__).with_name("stub_arm.py")
SECONDS = 30.0
MODES = {"dies": ONE.model_copy(update={"template": "dies"}), "deaf": ONE.model_copy(update={"template": "deaf"})}
LOADS = ONE.model_copy(update={"template": "loads"})


def launch(revision: Revision, port: int) -> Sequence[str]:
    """The stub in the mode that the template names."""
    return [sys.executable, "-I", "-S", str(STUB), str(port), revision.template, revision.name]


class Machine:
    """A folder of arms and a clock; every process that it started ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.made = folder, 1_000.0, list[LocalArms]()

    def arms(self) -> LocalArms:
        """Another process's view."""
        self.made.append(LocalArms(self.folder, "toy", launch, now=lambda: self.now))
        return self.made[-1]

    def close(self) -> None:
        """Ends every arm, and lets those that started them know."""
        last = self.arms()
        for name in last.running():
            last.stop(name)
        for child in [child for one in self.made for child in one._children.values()]:
            child.wait(SECONDS)

    def record(self, revision: Revision) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / f"{revision.name}.json").read_text())
        return found

    def log(self, revision: Revision) -> str:
        return (self.folder / f"{revision.name}.log").read_text()

    def processes(self, revision: Revision) -> list[psutil.Process]:
        """Found by their command, not by what the arms believe."""
        found = []
        for one in psutil.process_iter(["cmdline", "status"]):
            words = one.info["cmdline"] or []
            if one.info["status"] != psutil.STATUS_ZOMBIE and str(STUB) in words and revision.name in words:
                found.append(one)
        return found

    def kill(self, revision: Revision) -> None:
        """-9, by whatever kills processes."""
        (process,) = self.processes(revision)
        process.kill()
        wait(lambda: not self.processes(revision))


def wait(done: Callable[[], object]) -> None:
    """Until it is so; what is waited for always comes, or the test fails."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def ready(arms: Arms, revision: Revision) -> None:
    wait(lambda: arms.condition(revision).readiness is Readiness.READY)


def removed(arms: Arms, revision: Revision) -> None:
    wait(lambda: isinstance(arms.remove(revision), Gone))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "arms")
    yield made
    made.close()


@pytest.fixture(params=["memory", "local"])
def arms(request: pytest.FixtureRequest, machine: Machine) -> Arms:
    if request.param == "local":
        return machine.arms()
    world = World()
    world.controller().tick()  # a route, which leads to version 1
    return FakeArms(world)


class TestAny:
    """Of every kind."""

    def test_an_arm_starts_and_becomes_ready(self, arms: Arms) -> None:
        assert arms.condition(TWO).readiness is Readiness.STARTING
        arms.ensure(TWO)
        ready(arms, TWO)

    def test_an_arm_that_was_removed_is_gone_and_can_come_again(self, arms: Arms) -> None:
        arms.ensure(TWO)
        ready(arms, TWO)
        for _ in range(2):
            removed(arms, TWO)
            assert arms.condition(TWO).readiness is Readiness.STARTING
        arms.ensure(TWO)
        ready(arms, TWO)

    def test_removing_what_never_was_is_harmless(self, arms: Arms) -> None:
        removed(arms, TWO)
        assert arms.condition(TWO).readiness is Readiness.STARTING


class TestOneProcess:
    def test_ensured_twice_it_runs_once(self, machine: Machine) -> None:
        arms = machine.arms()
        for _ in range(3):
            arms.ensure(ONE)
        ready(arms, ONE)
        assert len(machine.processes(ONE)) == 1

    def test_another_engine_adopts_it(self, machine: Machine) -> None:
        machine.arms().ensure(ONE)
        other = machine.arms()
        ready(other, ONE)
        other.ensure(ONE)
        assert len(machine.processes(ONE)) == 1
        assert other.running() == [ONE.name]
        assert other.endpoint(ONE.name) == machine.arms().endpoint(ONE.name)
        removed(other, ONE)
        assert machine.processes(ONE) == []
        assert other.running() == []

    def test_an_engine_killed_as_it_started_an_arm_left_no_orphan(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the start of the process and the record of its id."""

        class Killed(BaseException):
            """kill -9."""

        def last_breath(*args: object, **more: object) -> None:
            started.append(popen(*args, **more))  # type: ignore[call-overload]
            raise Killed

        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen
        with monkeypatch.context() as patched:
            patched.setattr(local_arms.subprocess, "Popen", last_breath)
            with pytest.raises(Killed):
                machine.arms().ensure(ONE)
        other = machine.arms()
        other.ensure(ONE)
        ready(other, ONE)
        assert [one.pid for one in machine.processes(ONE)] == [started[0].pid]
        removed(other, ONE)
        assert started[0].wait(SECONDS) is not None
        assert machine.processes(ONE) == []

    def test_arms_do_not_meet(self, machine: Machine) -> None:
        arms = machine.arms()
        for one in (ONE, TWO):
            arms.ensure(one)
        for one in (ONE, TWO):
            ready(arms, one)
        assert arms.endpoint(ONE.name) != arms.endpoint(TWO.name)
        removed(arms, ONE)
        assert arms.running() == [TWO.name]
        with pytest.raises(NotFound):
            arms.endpoint(ONE.name)


class TestOtherSettings:
    """An arm that an engine with other settings left: a replay must not send event time to one that takes none."""

    def other(self, machine: Machine, **changes: str) -> LocalArms:
        def launch_otherwise(revision: Revision, port: int) -> Sequence[str]:
            return [*launch(revision, port), "--accept-event-time"]

        known = {"launch": launch, "made_of": ""} | (changes or {"launch": launch_otherwise})
        machine.made.append(LocalArms(machine.folder, "toy", now=lambda: machine.now, **known))  # type: ignore[arg-type]
        return machine.made[-1]

    @pytest.mark.parametrize("changes", [{}, {"made_of": "another release"}], ids=["command", "code"])
    def test_one_that_runs_is_replaced_on_its_port_and_waited_for(
        self, machine: Machine, changes: dict[str, str]
    ) -> None:
        arms = machine.arms()
        arms.ensure(ONE)
        ready(arms, ONE)
        endpoint, (before,) = arms.endpoint(ONE.name), machine.processes(ONE)
        other = self.other(machine, **changes)
        found = other.condition(ONE)
        assert (found.readiness, found.reason) == (Readiness.STARTING, "was started with other settings")
        other.ensure(ONE)
        ready(other, ONE)
        (after,) = machine.processes(ONE)
        assert after.pid != before.pid
        assert other.endpoint(ONE.name) == endpoint
        other.ensure(ONE)
        assert [one.pid for one in machine.processes(ONE)] == [after.pid]

    def test_one_that_could_not_start_has_all_its_starts_with_other_settings(self, machine: Machine) -> None:
        arms, broken = machine.arms(), MODES["dies"]
        for _ in range(MOST_STARTS):
            arms.ensure(broken)
            wait(lambda: not arms.running())
        assert arms.condition(broken).readiness is Readiness.FAILED
        other = self.other(machine)
        other.ensure(broken)
        assert machine.record(broken)["starts"] == 1


class TestDeath:
    def test_one_that_dies_is_started_again_on_its_port_and_then_no_more(self, machine: Machine) -> None:
        arms = machine.arms()
        arms.ensure(ONE)
        endpoint = arms.endpoint(ONE.name)
        for start in range(1, MOST_STARTS + 1):
            ready(arms, ONE)
            assert (machine.record(ONE)["starts"], arms.endpoint(ONE.name)) == (start, endpoint)
            machine.kill(ONE)
            arms = machine.arms() if start == 2 else arms  # another engine goes on counting
            found = arms.condition(ONE)
            expected = Readiness.STARTING if start < MOST_STARTS else Readiness.FAILED
            assert (found.readiness, found.reason) == (expected, "ended" if start < MOST_STARTS else "")
            arms.ensure(ONE)
        assert machine.processes(ONE) == []

    def test_deaths_long_apart_do_not_add_up(self, machine: Machine) -> None:
        arms = machine.arms()
        for _ in range(MOST_STARTS + 1):
            arms.ensure(ONE)
            ready(arms, ONE)
            machine.now += STEADY_SECONDS
            assert arms.condition(ONE).readiness is Readiness.READY
            assert machine.record(ONE)["starts"] == 1
            machine.kill(ONE)
            assert arms.condition(ONE).readiness is Readiness.STARTING

    def test_one_that_cannot_start_says_its_last_words(self, machine: Machine) -> None:
        arms, broken = machine.arms(), MODES["dies"]
        for _ in range(MOST_STARTS):
            arms.ensure(broken)
            wait(lambda: not arms.running())
        found = arms.condition(broken)
        assert found.readiness is Readiness.FAILED
        assert found.reason.splitlines()[-1] == "no such bundle"

    def test_the_time_is_that_of_the_condition_and_the_reason_that_of_now(self, machine: Machine) -> None:
        arms = machine.arms()
        assert (arms.condition(LOADS).since, arms.condition(LOADS).reason) == (1_000.0, "not started")
        arms.ensure(LOADS)
        machine.now = 1_050.0
        wait(lambda: "loads its model" in arms.condition(LOADS).reason)
        assert arms.condition(LOADS).since == 1_000.0
        removed(arms, LOADS)
        machine.now = 1_100.0
        arms.ensure(ONE)
        assert arms.condition(ONE).since == 1_100.0


class TestEnd:
    def test_requests_under_way_are_answered_first(self, machine: Machine) -> None:
        arms, answers = machine.arms(), list[bytes]()
        arms.ensure(ONE)
        ready(arms, ONE)
        address = arms.endpoint(ONE.name) + "/slow"

        def ask() -> None:
            with urlopen(address, timeout=SECONDS) as answer:
                answers.append(answer.read())

        thread = threading.Thread(target=ask)
        thread.start()
        wait(lambda: "took it" in machine.log(ONE))
        removed(arms, ONE)
        thread.join()
        assert [json.loads(one) for one in answers] == [{"ready": True}]
        assert machine.processes(ONE) == []

    def test_one_that_does_not_listen_is_killed_in_the_end(self, machine: Machine) -> None:
        """Nobody waits for it meanwhile, and another process goes on where the first one was."""
        arms, deaf = machine.arms(), MODES["deaf"]
        arms.ensure(deaf)
        ready(arms, deaf)
        assert arms.remove(deaf) == Pending("it answers what it took")
        machine.now += STOP_SECONDS
        assert machine.arms().remove(deaf) == Pending("it answers what it took")
        assert len(machine.processes(deaf)) == 1
        machine.now += 1.0
        removed(arms, deaf)
        assert machine.processes(deaf) == []

    def test_one_that_is_wanted_again_while_it_ends_is_started_again_then(self, machine: Machine) -> None:
        arms, deaf = machine.arms(), MODES["deaf"]
        arms.ensure(deaf)
        ready(arms, deaf)
        (before,) = machine.processes(deaf)
        arms.remove(deaf)
        arms.ensure(deaf)
        assert arms.condition(deaf).readiness is Readiness.STARTING
        machine.kill(deaf)
        arms.ensure(deaf)
        ready(arms, deaf)
        assert [one.pid == before.pid for one in machine.processes(deaf)] == [False]

    def test_one_that_was_stopped_comes_back_on_its_port(self, machine: Machine) -> None:
        """So the route that callers have holds when the controller is back; it has all its starts again."""
        arms = machine.arms()
        arms.ensure(ONE)
        ready(arms, ONE)
        machine.kill(ONE)
        arms.ensure(ONE)
        endpoint = arms.endpoint(ONE.name)
        arms.stop(ONE.name)
        assert machine.processes(ONE) == []
        assert arms.running() == []
        back = machine.arms()
        assert (back.condition(ONE).readiness, back.condition(ONE).reason) == (Readiness.STARTING, "not started")
        back.ensure(ONE)
        ready(back, ONE)
        assert back.endpoint(ONE.name) == endpoint
        assert machine.record(ONE)["starts"] == 1


class TestForeign:
    @pytest.fixture
    def foreign(self) -> Iterator[subprocess.Popen[bytes]]:
        """Somebody else's process."""
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
        yield process
        process.kill()
        process.wait()

    def test_a_process_that_has_the_id_of_an_arm_is_never_touched(
        self, machine: Machine, foreign: subprocess.Popen[bytes]
    ) -> None:
        """Ids are given again, after a restart of the machine for sure."""
        arms = machine.arms()
        arms.ensure(ONE)
        record = machine.record(ONE)
        machine.kill(ONE)
        path = machine.folder / f"{ONE.name}.json"
        path.write_text(json.dumps(record | {"pid": foreign.pid, "created": 1.0}))
        other = machine.arms()
        assert other.running() == []
        assert other.condition(ONE).readiness is Readiness.STARTING
        other.stop(ONE.name)
        path.write_text(json.dumps(record | {"pid": foreign.pid, "created": 1.0}))
        other.ensure(ONE)
        ready(other, ONE)
        assert len(machine.processes(ONE)) == 1
        removed(other, ONE)
        assert foreign.poll() is None
        os.kill(foreign.pid, signal.SIGCONT)  # it is still ours to signal

    def test_a_record_that_cannot_be_read_is_as_none(self, machine: Machine) -> None:
        machine.arms()
        (machine.folder / f"{ONE.name}.json").write_text("{")
        arms = machine.arms()
        assert arms.condition(ONE).reason == "not started"
        arms.ensure(ONE)
        ready(arms, ONE)
