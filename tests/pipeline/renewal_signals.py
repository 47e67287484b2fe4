"""Signals for the commands of a project, and who is left of the processes that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from renewal_copy import Project

SECONDS = 600.0
_MARK = "SERINUS_TEST_TREE"


def wait(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"{what}: it never came"
        time.sleep(0.02)


class Started:
    """A command, known with all it starts by a mark in their environment."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}".encode()
        name, value = self._mark.decode().split("=")
        self.process = subprocess.Popen(
            project.command(*arguments), cwd=project.empty, env=project.environment | {name: value},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            # A test run in the background of a shell inherits an ignored SIGINT; a user's terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def tree(self) -> list[psutil.Process]:
        """Everything that carries the mark and runs."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self._mark in path.read_bytes().split(b"\0"):
                    found.append(psutil.Process(int(path.parent.name)))
            except (OSError, psutil.NoSuchProcess):
                continue
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def listens(self) -> bool:
        """Whether our handlers of signals are in place: before that, Python's own start has the word."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def end(self, number: int) -> tuple[int, str]:
        """Sends the signal to the command alone; its exit code, and all it said."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, said


@contextmanager
def started(project: Project, *arguments: str) -> Iterator[Started]:
    """Nothing of it is left after the block, whatever happened in it."""
    made = Started(project, *arguments)
    try:
        yield made
    finally:
        for one in made.tree():
            os.kill(one.pid, signal.SIGKILL)
        made.process.kill()
        made.process.wait()
        if made.process.stdout is not None:
            made.process.stdout.close()
