"""Locks: one holder, however many wait; let go by the end of the process, however that came."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serinus.files import LockFile, Taken, is_locked, locked

HOLDER = """
import sys
from pathlib import Path
from serinus.files import locked
with locked(Path(sys.argv[1]), note="the other", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that holds a lock."""

    def __init__(self, path: Path, how: str = "alone") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_lock_that_is_taken_is_told_at_once_with_the_note_of_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "folder/.lock"
    holder = Holder(path)
    for patience in (0, 0.05):
        with pytest.raises(Taken, match="the other") as taken, locked(path, patience=patience, note="mine"):
            pass
        assert (taken.value.note, taken.value.path) == ("the other", path)
    assert is_locked(path)
    holder.kill()


def test_a_holder_that_is_killed_lets_go_and_who_waited_goes_on(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder, got = Holder(path), threading.Event()

    def wait() -> None:
        with locked(path, note="mine"):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.wait(0.1)
    holder.kill()
    waiting.join()
    assert got.is_set()
    assert not is_locked(path)
    with locked(path, patience=0):
        pass


def test_patience_outlasts_a_holder_that_ends(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = Holder(path)
    later = threading.Timer(0.1, holder.kill)
    later.start()
    with locked(path, patience=60):
        pass
    later.join()


def test_readers_share_and_keep_a_writer_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = Holder(path, "shared")
    with locked(path, shared=True, patience=0):
        pass
    with pytest.raises(Taken), locked(path, patience=0):
        pass
    assert not is_locked(path)
    holder.kill()
    with locked(path, patience=0), pytest.raises(Taken), locked(path, shared=True, patience=0):
        pass


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / ".lock"):
                inside += 1
                most = max(most, inside)
                os.sched_yield()
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_holder_may_delete_the_file_and_there_is_still_one_holder(tmp_path: Path) -> None:
    path, inside, most = tmp_path / ".lock", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(path):
                inside += 1
                most = max(most, inside)
                assert path.exists()
                os.sched_yield()
                inside -= 1
                path.unlink()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, path.exists()) == (1, False)


def test_who_waits_for_one_holder_does_not_wait_for_the_next(tmp_path: Path) -> None:
    """A process that ends with its starter: another one may have made the file anew since."""
    path = tmp_path / ".lock"
    holder = Holder(path)
    with LockFile(path, flags=os.O_RDONLY) as file:
        path.unlink()
        other = Holder(path)
        holder.kill()
        file.take(shared=True)
    other.kill()


def test_a_block_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), locked(tmp_path / ".lock"):
        raise ValueError("x")
    assert not is_locked(tmp_path / ".lock")


def test_a_shorter_note_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    with LockFile(tmp_path / ".lock") as file:
        file.take()
        file.say("a long note")
        file.say("né")
        assert file.note() == "né"
    assert (tmp_path / ".lock").read_text() == "né"


def test_a_file_that_must_exist_or_must_not(tmp_path: Path) -> None:
    path = tmp_path / "folder/.lock"
    with pytest.raises(FileNotFoundError):
        LockFile(path, flags=os.O_RDWR)
    assert not path.parent.exists()
    assert not is_locked(path)
    LockFile(path, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL).close()
    with pytest.raises(FileExistsError):
        LockFile(path, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL)


def test_a_reader_that_may_not_write_sees_whether_it_is_locked(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path):
        path.chmod(0o444)
        assert is_locked(path)
