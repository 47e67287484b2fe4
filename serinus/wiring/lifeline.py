"""Processes that end with the one that started them, however that one ended.

Invariant: a starter holds a lock of the system on a file for as long as it lives; each process below it waits for that
lock, and ends as by SIGTERM when it gets it. `kill -9` lets go of a lock, a shell in between does not matter, and no
process id is ever trusted. A file whose lock nobody holds names a starter that was cut off.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serinus.core.errors import Conflict
from serinus.files import LockFile, Taken

# How a process below finds the lock: `<token>@<path>`. A file with another token is somebody else's by now.
VARIABLE = "SERINUS_LIFELINE"
# What a dead starter left behind holds its lock for a moment, on its way out.
_PATIENCE_SECONDS = 1.0


@contextmanager
def held(path: Path, taken: Conflict) -> Iterator[None]:
    """Processes that are started in the block end with this one. Raises `taken` while another one holds the lock."""
    with LockFile(path) as lock:
        try:
            lock.take(patience=_PATIENCE_SECONDS)
        except Taken as fault:
            raise taken from fault
        token = secrets.token_hex(8)
        lock.say(token)
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = f"{token}@{path.resolve()}"
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before


def follow() -> None:
    """This process ends with its starter from now on; one that was started by none, by itself."""
    token, at, path = os.environ.get(VARIABLE, "").partition("@")
    if at:
        threading.Thread(target=_wait, args=(Path(path), token), name="lifeline", daemon=True).start()


def _wait(path: Path, token: str) -> None:
    with suppress(FileNotFoundError), LockFile(path, flags=os.O_RDONLY) as lock:
        if lock.note() == token:
            lock.take(shared=True)
    os.kill(os.getpid(), signal.SIGTERM)
