"""What the runs of one problem share: feature sources and recordings below the home, and the turn to run at all.

Invariant: a shared folder says which run wrote it, and while it is written it says nothing; a step reads it only while
it is its own run's, and nobody writes meanwhile. Here two runs of a problem never overlap; where no process lives over
a whole run (Kubeflow), they may, and then the marks refuse what would mix their data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from serinus.core.errors import Conflict
from serinus.files import DISK, LockFile, Taken, locked


class WrittenBy(BaseModel):
    """Who wrote a shared folder, from which data and by which code (hashes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    snapshot_hash: str = ""
    code_hash: str = ""


@dataclass(frozen=True)
class SharedFolder:
    """A folder that the runs of a problem write one after the other; `what` is its name in messages.

    Its mark and its lock stand beside it, for a writer may replace the folder as a whole.
    """

    folder: Path
    what: str
    problem: str

    def written_by(self) -> WrittenBy | None:
        """None when nothing is there, or when its writer did not end."""
        try:
            return WrittenBy.model_validate_json(self._beside("written_by.json").read_bytes())
        except (OSError, ValidationError):
            return None

    @contextmanager
    def writing(self, mine: WrittenBy) -> Iterator[None]:
        """Nobody reads or writes meanwhile; the mark stands only when all is written."""
        mark = self._beside("written_by.json")
        with locked(self._beside("lock")):
            DISK.remove(mark)
            yield
            DISK.replace(mark, mine.model_dump_json(indent=1) + "\n")

    @contextmanager
    def reading(self, run: str, snapshot_hash: str = "") -> Iterator[None]:
        """Nobody writes meanwhile. Raises `Conflict` unless that run wrote it, from that data where it is told."""
        with locked(self._beside("lock"), shared=True):
            found = self.written_by()
            if found is None or found.run != run or snapshot_hash not in ("", found.snapshot_hash):
                raise self._not_those_of(run, snapshot_hash, found)
            yield

    def _not_those_of(self, run: str, snapshot_hash: str, found: WrittenBy | None) -> Conflict:
        by = (
            f"written by run {found.run}, of data {found.snapshot_hash[:12]}"
            if found
            else "not there, or were not written to their end"
        )
        data = f"; run {run} reads data {snapshot_hash[:12]}" if snapshot_hash else ""
        return Conflict(
            f"the {self.what} of {self.problem} are not those of run {run}",
            cause=f"they are {by}{data}",
            hint="the runs of a problem share them, so let one end before the next begins, and start this one again "
            f"(a local one: `serinus pipeline run {self.problem} --resume {run}` writes them anew)",
        )

    def _beside(self, name: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{name}")


def feature_sources(home: Path, problem: str) -> SharedFolder:
    """The source rows of the views, with the Feast registry that describes them."""
    return SharedFolder(home / "features" / problem, "feature sources", problem)


def recordings(home: Path, problem: str) -> SharedFolder:
    """The recorded requests that a replay sends."""
    return SharedFolder(home / "recordings" / problem, "recorded requests", problem)


@contextmanager
def turn(home: Path, problem: str, run: str) -> Iterator[None]:
    """The turn to run a problem's pipeline here, until the block or this process ends.

    Raises `Conflict` naming the run that has it.
    """
    with LockFile(home / "runs" / f".{problem}.lock") as lock:
        try:
            lock.take(patience=0)
        except Taken as fault:
            raise Conflict(
                f"another run of {problem} is under way",
                cause=fault.note,
                hint="wait for its end, or stop it; the runs of a problem share feature sources and recordings",
            ) from fault
        lock.say(f"run {run}, process {os.getpid()}")
        yield
