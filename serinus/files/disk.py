"""Files and folders that are whole or absent, and that stay when the machine stops.

Invariant: when `replace`, `replacing`, `place`, `new_folder`, `folder`, `move` or `remove` has returned, its work
outlasts a loss of power; before, a reader finds the old or the new, never a part. Each of them is made of the five
operations at the top of `Disk`, so that a test fails, kills or loses power between any two of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final


class Disk:
    """Operations on files; each may raise `OSError`. Tests override the first five."""

    def write(self, path: Path, data: bytes) -> None:
        """A new file, not on disk yet."""
        path.write_bytes(data)

    def sync(self, path: Path) -> None:
        """Waits until the bytes of a file, or the names in a folder, are on disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file or folder another name on the same file system; a file that has it is replaced."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Removes a file that may be gone already; after a loss of power it may be back."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """A folder that may be there already, not on disk yet."""
        path.mkdir(exist_ok=True)

    def folder(self, path: Path) -> None:
        """A folder with those above it."""
        if not path.is_dir():
            self.folder(path.parent)
            self.mkdir(path)
            self.sync(path.parent)

    def replace(self, path: Path, data: str | bytes) -> None:
        """A file with this content (a text in UTF-8), in place of what was there."""
        with self.replacing(path) as fresh:
            self.write(fresh, data.encode() if isinstance(data, str) else data)

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """The same for who writes by itself, such as a library: into the path that the block is given."""
        self.folder(path.parent)
        fresh = _beside(path)
        try:
            yield fresh
            self.place(fresh, path)
        except BaseException:
            with suppress(OSError):
                self.unlink(fresh)
            raise

    def place(self, fresh: Path, path: Path) -> None:
        """Makes a file that is written to its end the one at `path`; both lie on the same file system."""
        self.sync(fresh)
        self.rename(fresh, path)
        self.sync(path.parent)

    @contextmanager
    def new_folder(self, path: Path) -> Iterator[Path]:
        """A folder that appears with all that the block puts into the one it is given.

        Raises `FileExistsError` when another with something in it is there by the end of the block; that one stays.
        """
        self.folder(path.parent)
        fresh = _beside(path)
        self.mkdir(fresh)
        try:
            yield fresh
            self._sync_below(fresh)
            self._rename_folder(fresh, path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self.sync(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Another place for a file or folder that is on disk, with the folders above it."""
        self.folder(target.parent)
        self.rename(source, target)
        self.sync(target.parent)
        self.sync(source.parent)

    def remove(self, path: Path) -> None:
        """Removes a file, or a folder with all in it, for good; it may be gone already."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            self.unlink(path)
        if path.parent.is_dir():
            self.sync(path.parent)

    def _sync_below(self, folder: Path) -> None:
        for where, _, names in os.walk(folder, topdown=False):
            for name in names:
                self.sync(Path(where, name))
            self.sync(Path(where))

    def _rename_folder(self, fresh: Path, path: Path) -> None:
        try:
            self.rename(fresh, path)
        except OSError as fault:
            if fault.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from fault
            raise


def _beside(path: Path) -> Path:
    """A hidden name that no other writer has, of this process or another machine's on the same volume."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


# The machine's own: an argument's default, which tests replace by handing in another.
DISK: Final = Disk()
