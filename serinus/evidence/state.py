"""What a reduction remembers between runs: which segments it has read, what is still open, where KPI rows are.

Invariant: one small file says everything and is replaced as a whole; files it does not name are left-overs of a killed
run, and are deleted by the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from serinus.core.errors import Conflict, DataError
from serinus.files import DISK, Disk, LockFile, Taken

_STATE, _LOCK = "state.json", ".lock"
_PART_ROWS = 50_000


class KpiFile(BaseModel):
    """KPI rows of the runs from `since` to `until`; event times (epoch seconds) bound which requests can be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    first: float
    last: float
    since: int
    until: int


class Counters(BaseModel):
    """What was seen since the log was made; `open` and `waiting` are as of now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exposures: int = 0
    outcomes: int = 0
    duplicates: int = 0
    late: int = 0
    orphans: int = 0
    lost: int = 0
    open: int = 0
    waiting: int = 0


class Written(BaseModel):
    """The number after a writer's highest, and the ranges below it (first, and after the last) that have not come.

    Ranges and not a count: rows come at least once, and those of a range may still come.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    next: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def lost(self) -> int:
        """Numbers given out that never reached the disk."""
        return sum(end - start for start, end in self.gaps)

    def with_rows(self, numbers: NDArray[np.int64]) -> Written:
        """Once rows with these numbers have come, in any order, seen before or not."""
        numbers = np.unique(numbers)
        after = max(self.next, int(numbers[-1]) + 1)
        gaps: list[tuple[int, int]] = []
        for start, end in (*self.gaps, (self.next, after)):
            inside = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)].tolist()
            between = zip([start, *(one + 1 for one in inside)], [*inside, end], strict=True)
            gaps += [(first, last) for first, last in between if first < last]
        return Written(next=after, gaps=tuple(gaps))


class State(BaseModel):
    """The whole memory; `generation` counts the runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = 0
    consumed: dict[str, tuple[str, ...]] = {}
    kpi_files: tuple[KpiFile, ...] = ()
    open_file: str = ""
    waiting_file: str = ""
    scores_file: str = ""
    writers: dict[str, Written] = {}
    counters: Counters = Counters()

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, document: Any) -> Any:  # noqa: ANN401 - whatever was in the file
        """The release before wrote a file a run, in order, and did not say which."""
        for place, one in enumerate(document.get("kpi_files", ()) if isinstance(document, dict) else (), 1):
            if isinstance(one, dict) and "since" not in one:
                one |= {"since": place, "until": place}
        return document


class StateFolder:
    """The folder of a reduction. Another one under way is waited for, `patience` seconds at most."""

    def __init__(self, folder: Path, *, patience: float = 20.0, disk: Disk = DISK) -> None:
        self.folder, self._patience, self._disk = folder, patience, disk

    @contextmanager
    def alone(self) -> Iterator[State]:
        """The state, while no other process reduces. Raises `Conflict` when one does."""
        with LockFile(self.folder / _LOCK, disk=self._disk) as lock:
            try:
                # `serinus kpis` beside a running controller is no reason for either to fail.
                lock.take(patience=self._patience)
            except Taken as fault:
                raise Conflict(f"another process reduces {self.folder}", hint="wait until it ends") from fault
            state = self.load()
            self._tidy(state)
            yield state

    def load(self) -> State:
        """The state last saved; an empty one at first. Raises `DataError` for one of another release."""
        path = self.folder / _STATE
        try:
            return State.model_validate_json(path.read_bytes()) if path.exists() else State()
        except ValidationError as fault:
            raise DataError(
                f"the reduction in {self.folder} was made by another release",
                cause=str(fault),
                hint="move the folder away: it is made anew from the event log, which keeps every row",
            ) from fault

    def save(self, state: State) -> None:
        """Makes the files that the state names the truth; all of them are on disk by then."""
        self._disk.replace(self.folder / _STATE, state.model_dump_json())
        self._tidy(state)

    def put(self, name: str, table: pa.Table) -> str:
        """Writes a table that a state to come will name."""
        with self._disk.replacing(self.folder / name) as fresh:
            pq.write_table(table, fresh, compression="zstd")
        return name

    def get(self, name: str) -> pa.Table:
        """A table that the state names."""
        return pq.ParquetFile(self.folder / name).read()

    def schema(self, name: str) -> pa.Schema:
        """Of such a table."""
        return pq.read_schema(self.folder / name)

    def parts(
        self, name: str, rows: int, columns: list[str] | None = None, least: tuple[str, float] | None = None
    ) -> Iterator[pa.Table]:
        """The same, some rows at a time; with `least` not those parts of the file in which a column is below a number
        throughout.
        """
        with pq.ParquetFile(self.folder / name) as file:
            groups = [one for one in range(file.num_row_groups) if least is None or _reaches(file, one, *least)]
            for batch in file.iter_batches(rows, groups, columns):
                yield pa.Table.from_batches([batch])

    def growing(self, name: str, empty: pa.Table) -> Growing:
        """A table that is put part by part; `empty` has its columns."""
        return Growing(self.folder, name, empty, self._disk)

    def _tidy(self, state: State) -> None:
        held = (state.open_file, state.waiting_file, state.scores_file)
        named = {_STATE, _LOCK, *held, *(one.name for one in state.kpi_files)}
        for path in self.folder.iterdir():
            if path.name not in named:
                self._disk.unlink(path)


def _reaches(file: pq.ParquetFile, group: int, name: str, least: float) -> bool:
    """Whether a part of a file may have a value that is not below `least`."""
    written = file.metadata.row_group(group)
    for number in range(written.num_columns):
        one = written.column(number)
        if one.path_in_schema == name and one.statistics is not None and one.statistics.has_min_max:
            return bool(one.statistics.max >= least)
    return True


class Growing:
    """A table on its way to the disk: holds no more than a part of it. Never closed, it is a left-over."""

    def __init__(self, folder: Path, name: str, empty: pa.Table, disk: Disk) -> None:
        self._path, self._fresh, self._empty, self._disk = folder / name, folder / f".{name}", empty, disk
        self._parts: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Its columns may be some of those of `empty`; the others are null."""
        self._parts.append(table)
        self.rows += len(table)
        if sum(map(len, self._parts)) >= _PART_ROWS:
            self._flush()

    def close(self) -> str:
        """Its name, once it is on disk."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self._disk.place(self._fresh, self._path)
        return self._path.name

    def _flush(self) -> None:
        table = pa.concat_tables([self._empty, *self._parts], promote_options="permissive")
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._fresh, table.schema, compression="zstd")
        if self._parts:
            self._writer.write_table(table)
        self._parts = []
