"""Processes that end with the one that started them, however that one ended.

Invariant: a starter holds a lock of the system on a file for as long as it lives; each process below it waits for that
lock, and ends as by SIGTERM when it gets it. `kill -9` lets go of a lock, a shell in between does not matter, and no
process id is ever trusted. A file whose lock nobody holds names a starter that was cut off.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from serinus.core.errors import Conflict

# How a process below finds the lock: `<token>@<path>`. A file with another token is somebody else's by now.
VARIABLE = "SERINUS_LIFELINE"
_TRIES, _PAUSE = 20, 0.05


@contextmanager
def held(path: Path, taken: Conflict) -> Iterator[None]:
    """Processes that are started in the block end with this one. Raises `taken` while another one holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        if not _lock(handle):
            raise taken
        token = secrets.token_hex(8)
        handle.truncate(0)
        handle.write(token)
        handle.flush()
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = f"{token}@{path.resolve()}"
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before


def is_held(path: Path) -> bool:
    """Whether a process that lives holds that lock."""
    try:
        with path.open("r", encoding="utf-8") as handle:
            return not _try(handle, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def follow() -> None:
    """This process ends with its starter from now on; one that was started by none, by itself."""
    token, at, path = os.environ.get(VARIABLE, "").partition("@")
    if at:
        threading.Thread(target=_wait, args=(Path(path), token), name="lifeline", daemon=True).start()


def _wait(path: Path, token: str) -> None:
    with suppress(FileNotFoundError), path.open("r", encoding="utf-8") as handle:
        if handle.read() == token:
            fcntl.flock(handle, fcntl.LOCK_SH)
    os.kill(os.getpid(), signal.SIGTERM)


def _lock(handle: IO[str]) -> bool:
    """What a dead starter left behind holds its lock for a moment, on its way out."""
    for _ in range(_TRIES):
        if _try(handle, fcntl.LOCK_EX):
            return True
        time.sleep(_PAUSE)
    return False


def _try(handle: IO[str], how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
