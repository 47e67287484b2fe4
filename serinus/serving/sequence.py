"""Numbers the exposures of one writer, across restarts.

Invariant: a number is given out once; a kill of the process does not take the count back, because it lives in a mapped
file. What was given out and never reached the disk is therefore a gap that evidence can count.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import Protocol

from serinus.core.errors import Unavailable

_COUNT = struct.Struct("<Q")
_MOST_WRITERS = 1_000


class Sequence(Protocol):
    """Who writes, and the next number."""

    writer: str

    def next(self) -> int:
        """0, 1, 2 and so on."""


class SequenceFile:
    """`Sequence` in `<folder>/<revision>.<slot>`: the first slot that no living process holds."""

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
        """Lets another process have the slot."""
        self._map.close()
        os.close(self._handle)


def _claim(folder: Path, revision: str) -> tuple[int, str]:
    for slot in range(_MOST_WRITERS):
        name = f"{revision}.{slot}"
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        return handle, name
    raise Unavailable(f"{_MOST_WRITERS} predictors of {revision} write here already")
