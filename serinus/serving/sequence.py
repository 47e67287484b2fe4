"""Numbers the exposures of one writer, across restarts.

Invariant: a number is given out once; a kill of the process does not take the count back, because it lives in a mapped
file. What was given out and never reached the disk is therefore a gap that evidence can count. A writer's name lives
and dies with its count: where the file is gone, the next writer has another name and begins at 0.
"""

from __future__ import annotations

import mmap
import os
import struct
import uuid
from pathlib import Path
from typing import Protocol

from serinus.files import DISK, LockFile, Taken

_COUNT = struct.Struct("<Q")


class Sequence(Protocol):
    """Who writes, and the next number."""

    writer: str

    def next(self) -> int:
        """0, 1, 2 and so on."""


class SequenceFile:
    """`Sequence` in `<folder>/<revision>.<token>`: a file that no living process holds, else a new one."""

    def __init__(self, folder: Path, revision: str) -> None:
        DISK.folder(folder)
        self._file = _claim(folder, revision)
        self.writer, handle = self._file.path.name, self._file.fileno()
        if os.fstat(handle).st_size < _COUNT.size:
            os.ftruncate(handle, _COUNT.size)
        self._map = mmap.mmap(handle, _COUNT.size)

    def next(self) -> int:
        """See `Sequence`."""
        (number,) = _COUNT.unpack_from(self._map, 0)
        _COUNT.pack_into(self._map, 0, number + 1)
        return int(number)

    def close(self) -> None:
        """Lets another process go on with it."""
        self._map.close()
        self._file.close()


def _claim(folder: Path, revision: str) -> LockFile:
    """A file of the revision, locked."""
    for name in sorted(path.name for path in folder.iterdir() if path.name.rpartition(".")[0] == revision):
        file = _locked(folder / name, os.O_RDWR)
        if file is not None:
            return file
    while True:
        file = _locked(folder / f"{revision}.{uuid.uuid4().hex[:12]}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        # None when another process found the file before it was locked, and holds it.
        if file is not None:
            return file


def _locked(path: Path, flags: int) -> LockFile | None:
    file = LockFile(path, flags=flags)
    try:
        file.take(patience=0)
    except Taken:
        file.close()
        return None
    return file
