"""A command is interrupted by any of three signals, whatever a library makes of that; what it started ends with it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from serinus.core.errors import Conflict
from serinus.files import is_locked
from serinus.wiring.interrupts import INTERRUPTED, guarded
from serinus.wiring.lifeline import VARIABLE, held

SECONDS = 60.0
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
TAKEN = Conflict("taken")


def wait(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _a_terminal_that_interrupts() -> None:
    """A test run in the background of a shell inherits an ignored SIGINT."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_ends_the_work_and_what_was_begun_is_undone(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    undone: list[bool] = []

    def work() -> int:
        try:
            signal.raise_signal(number)
            time.sleep(SECONDS)
        finally:
            undone.append(True)
        return 0

    before = signal.getsignal(number)
    assert guarded(work) == INTERRUPTED
    assert undone == [True]
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(number) is before


def test_what_a_library_makes_of_an_interrupt_is_the_interrupt() -> None:
    """As extension modules do, which report any fault of an import as their own."""

    def work() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as fault:
            raise ImportError("numpy.core.multiarray failed to import") from fault
        return 0

    assert guarded(work) == INTERRUPTED


def test_an_interrupt_that_falls_where_nothing_can_be_raised_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    class Unlucky:
        """Is being thrown away as the signal comes."""

        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> int:
        Unlucky()
        gc.collect()
        time.sleep(SECONDS)
        return 0

    assert guarded(work) == INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_without_an_interrupt_is_a_fault() -> None:
    def work() -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        guarded(work)
    assert guarded(lambda: 3) == 3


CHILD = """
import sys, time
from serinus.wiring.lifeline import follow
follow()
open(sys.argv[1], "w").close()
time.sleep(600)
"""
# With a shell in between, as the steps of a pipeline have.
PARENT = f"""
import subprocess, sys, time
from pathlib import Path
from serinus.core.errors import Conflict
from serinus.wiring.lifeline import held
with held(Path(sys.argv[1]) / "lock", Conflict("taken")):
    code = {CHILD!r}
    command = [sys.executable, "-c", code, sys.argv[1] + "/up"]
    subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *command])
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_its_starter_however_that_ended(tmp_path: Path, how: int) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        wait((tmp_path / "up").exists)
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) == 2
        assert is_locked(tmp_path / "lock")
        parent.send_signal(how)
        parent.wait(SECONDS)
        wait(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below))
        assert not is_locked(tmp_path / "lock")
        with held(tmp_path / "lock", TAKEN):  # what is left is in nobody's way
            pass
    finally:
        parent.kill()
        parent.wait()


def test_one_that_comes_late_does_not_follow_the_next_starter(tmp_path: Path) -> None:
    """A step that was still importing when its run was killed and taken up again."""
    with held(tmp_path / "lock", TAKEN):
        late = os.environ[VARIABLE]
    with held(tmp_path / "lock", TAKEN):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "up")], env=os.environ | {VARIABLE: late})
        assert child.wait(SECONDS) == -signal.SIGTERM


def test_a_lock_is_held_once_and_named_only_while_it_is(tmp_path: Path) -> None:
    before = os.environ.get(VARIABLE)
    assert not is_locked(tmp_path / "lock")
    with held(tmp_path / "lock", TAKEN):
        assert is_locked(tmp_path / "lock")
        with pytest.raises(Conflict, match="taken"), held(tmp_path / "lock", TAKEN):
            pass
    assert os.environ.get(VARIABLE) == before
    assert not is_locked(tmp_path / "lock")
