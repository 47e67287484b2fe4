"""Locks between processes, as the system keeps them on open files.

Invariant: a lock is let go with its file or with its process, however that ended, so none is ever stale. Nobody but its
holder deletes the file. What it says is the holder's note, and means nothing once the lock is free.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from serinus.files.disk import DISK, Disk

_POLL_SECONDS = 0.02


class Taken(Exception):
    """Another one holds the lock; `note` is what it said of itself."""

    def __init__(self, path: Path, note: str) -> None:
        super().__init__(f"{path} is locked" + (f" by {note}" if note else ""))
        self.path, self.note = path, note


class LockFile:
    """An open file that can be locked, until `close` or the end of the process. Threads lock each other out as well."""

    def __init__(self, path: Path, *, flags: int = os.O_RDWR | os.O_CREAT, disk: Disk = DISK) -> None:
        """`flags` are those of `os.open`: with `O_CREAT` the folder is made as well, without it a file must exist."""
        if flags & os.O_CREAT:
            disk.folder(path.parent)
        self.path, self._flags = path, flags
        self._handle = os.open(path, flags, 0o644)

    def take(self, *, shared: bool = False, patience: float | None = None) -> None:
        """Locks against all others, or with `shared` against those who do not share.

        Waits `patience` seconds at most (0: not at all; None: until it is free). Raises `Taken`.
        """
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = None if patience is None else time.monotonic() + patience
        self._lock(how, deadline)
        while self._flags & os.O_CREAT and not self._in_place():
            # Its holder deleted it; whoever comes now finds another file, and must find this one locked.
            gone, self._handle = self._handle, os.open(self.path, self._flags, 0o644)
            os.close(gone)
            self._lock(how, deadline)

    def _lock(self, how: int, deadline: float | None) -> None:
        if deadline is None:
            fcntl.flock(self._handle, how)
            return
        while not self._tried(how):
            if time.monotonic() >= deadline:
                raise Taken(self.path, self.note())
            time.sleep(_POLL_SECONDS)

    def _tried(self, how: int) -> bool:
        try:
            fcntl.flock(self._handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return False

    def note(self) -> str:
        """What the one that holds it said last."""
        return os.pread(self._handle, os.fstat(self._handle).st_size, 0).decode(errors="replace")

    def say(self, note: str) -> None:
        """Leaves a note to those who find it taken; for its holder."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, note.encode(), 0)

    def fileno(self) -> int:
        """Its number in this process."""
        return self._handle

    def close(self) -> None:
        """Lets go."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def locked(
    path: Path, *, shared: bool = False, patience: float | None = None, note: str = "", disk: Disk = DISK
) -> Iterator[None]:
    """Holds the lock of a file while the block runs, with a note to those who wait. Raises `Taken`; see `LockFile`."""
    with LockFile(path, disk=disk) as file:
        file.take(shared=shared, patience=patience)
        if note:
            file.say(note)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process that lives holds the lock of a file against all others."""
    try:
        with LockFile(path, flags=os.O_RDONLY) as file:
            file.take(shared=True, patience=0)
    except FileNotFoundError:
        return False
    except Taken:
        return True
    return False
