"""Snapshots of the online store, one a day: made once by Feast from the day before, loaded in milliseconds (D12).

Invariant: a snapshot is whole or absent and never written again; rebuilt features have another fingerprint, so they
never meet a snapshot of older ones. Loading needs no Feast. One process at a time makes, deletes or loads.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from serinus.features.clock import lookup_time
from serinus.files import DISK, locked

_LOCK, _DAY = ".lock", "%Y-%m-%d"


@dataclass(frozen=True)
class Earlier:
    """The snapshot of an earlier day, which holds every row but those that came since its midnight."""

    as_of: datetime
    path: Path


# Writes the snapshot of a time into a file that does not exist yet, with an earlier one to begin with if there is one.
MakeSnapshot = Callable[[datetime, Path, Earlier | None], None]


class Loader(Protocol):
    """Makes a snapshot the live store, as a whole."""

    def load(self, snapshot: Path) -> None:
        """Readers see the old store or the new one."""


class SqliteLoader:
    """The live store is a file: a copy is renamed over it, so that nobody who writes to it harms the snapshot."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def load(self, snapshot: Path) -> None:
        """See `Loader`."""
        with DISK.replacing(self._target) as fresh:
            shutil.copyfile(snapshot, fresh)


class FeatureClock:
    """Moves the store to the midnight that begins a day: for a replay, for the pipeline and for the command line."""

    def __init__(self, folder: Path, fingerprint: str, make: MakeSnapshot, loader: Loader) -> None:
        self._folder, self._make, self._loader = folder / fingerprint, make, loader
        self._loaded: Path | None = None

    def move_to(self, as_of: datetime) -> Path:
        """Loads the day of `as_of` unless this clock loaded it last; returns its snapshot."""
        path = self._path(as_of)
        if path != self._loaded or not path.exists():
            with self._alone():
                self._ensure(path, as_of)
                self._loader.load(path)
            self._loaded = path
        return path

    def snapshot(self, as_of: datetime) -> Path:
        """The snapshot of a day, made now when there is none."""
        path = self._path(as_of)
        with self._alone():
            self._ensure(path, as_of)
        return path

    def _path(self, as_of: datetime) -> Path:
        return self._folder / f"{lookup_time(as_of):{_DAY}}.db"

    def _before(self, path: Path) -> Earlier | None:
        """The newest snapshot of an earlier day."""
        found = max((one for one in self._folder.glob("*.db") if one.name < path.name), default=None)
        return Earlier(datetime.strptime(found.stem, _DAY).replace(tzinfo=UTC), found) if found else None

    def _ensure(self, path: Path, as_of: datetime) -> None:
        if path.exists():
            return
        self._clear_others()
        DISK.folder(self._folder)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._folder.parent) as scratch:
            fresh = Path(scratch) / path.name
            self._make(as_of, fresh, self._before(path))
            DISK.place(fresh, path)

    def _clear_others(self) -> None:
        """Snapshots of features that were built anew since, and what a maker that was killed left."""
        for path in self._folder.parent.iterdir():
            if path != self._folder and path.name != _LOCK:
                shutil.rmtree(path, ignore_errors=True)

    def _alone(self) -> AbstractContextManager[None]:
        """Holds the snapshots against other clocks."""
        return locked(self._folder.parent / _LOCK)


def fingerprint(files: Iterable[Path], sources: Iterable[Path]) -> str:
    """Of the content of `files` (definitions), and of the size and time of `sources`, which can be large."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    for path in sorted(sources):
        seen = path.stat()
        digest.update(f"{path.name}\0{seen.st_size}\0{seen.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def counts(snapshot: Path, project: str) -> dict[str, int]:
    """Rows by view."""
    with closing(sqlite3.connect(f"{snapshot.absolute().as_uri()}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {
            table.removeprefix(f"{project}_"): int(
                db.execute(f'SELECT count(DISTINCT entity_key) FROM "{table}"').fetchone()[0]  # noqa: S608
            )
            for table in tables
            if table.startswith(f"{project}_")
        }
