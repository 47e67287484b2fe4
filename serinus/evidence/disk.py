"""The few file operations of the event log, in one place, so that tests can kill between any two of them.

Invariant: after `publish` returns, the file is on disk under its name, whole, also if the machine stops then.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """Operations on files; each may raise `OSError`."""

    def write(self, path: Path, data: bytes) -> None:
        """A new file."""
        with path.open("wb") as handle:
            handle.write(data)

    def sync(self, path: Path) -> None:
        """Waits until a file, or the names in a folder, are on disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Replaces the target."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Removes a file that may be gone already."""
        path.unlink(missing_ok=True)

    def folder(self, path: Path) -> None:
        """A folder, with those above it, whose names are on disk as well."""
        if not path.is_dir():
            self.folder(path.parent)
            path.mkdir(exist_ok=True)
            self.sync(path.parent)

    def publish(self, path: Path, data: bytes) -> None:
        """Writes aside, and renames once the bytes are on disk."""
        fresh = path.with_name(f".{path.name}.tmp")
        try:
            self.write(fresh, data)
            self.sync(fresh)
            self.rename(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        self.sync(path.parent)
