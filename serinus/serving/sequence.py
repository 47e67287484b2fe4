"""Numbers the exposures of one writer, across restarts.

Invariant: a number is given out once; a kill of the process does not take the count back, because it lives in a mapped
file. What was given out and never reached the disk is therefore a gap that evidence can count. A writer's name lives
and dies with its count: where the file is gone, the next writer has another name and begins at 0.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import uuid
from pathlib import Path
from typing import Protocol

_COUNT = struct.Struct("<Q")


class Sequence(Protocol):
    """Who writes, and the next number."""

    writer: str

    def next(self) -> int:
        """0, 1, 2 and so on."""


class SequenceFile:
    """`Sequence` in `<folder>/<revision>.<token>`: a file that no living process holds, else a new one."""

    def __init__(self, folder: Path, revision: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._handle, self.writer = _claim(folder, revision)
        if os.fstat(self._handle).st_size < _COUNT.size:
            os.ftruncate(self._handle, _COUNT.size)
        self._map = mmap.mmap(self._handle, _COUNT.size)

    def next(self) -> int:
        """See `Sequence`."""
        (number,) = _COUNT.unpack_from(self._map, 0)
        _COUNT.pack_into(self._map, 0, number + 1)
        return int(number)

    def close(self) -> None:
        """Lets another process go on with it."""
        self._map.close()
        os.close(self._handle)


def _claim(folder: Path, revision: str) -> tuple[int, str]:
    """A file of the revision, locked, and its name."""
    for name in sorted(path.name for path in folder.iterdir() if path.name.rpartition(".")[0] == revision):
        handle = _locked(folder / name, 0)
        if handle is not None:
            return handle, name
    while True:
        name = f"{revision}.{uuid.uuid4().hex[:12]}"
        handle = _locked(folder / name, os.O_CREAT | os.O_EXCL)
        # None when another process found the file before it was locked, and holds it.
        if handle is not None:
            return handle, name


def _locked(path: Path, more: int) -> int | None:
    handle = os.open(path, os.O_RDWR | more, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
