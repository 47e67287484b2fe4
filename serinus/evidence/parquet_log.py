"""The embedded event log: a folder a stream, and in it immutable parquet segments.

Invariant: a segment is visible once it is whole and on disk, and is never changed; what compaction replaces is deleted
only after its successor is on disk, and ignored from then on. A file that cannot be read is set aside and counted.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serinus.core.errors import Unavailable
from serinus.core.events import Event, Stream
from serinus.evidence.log import Damage, Segment
from serinus.evidence.rows import SCHEMAS, conformed, stored_names, table_of
from serinus.files import DISK, Disk

_INPUTS = b"serinus.inputs"
_SUFFIX = ".parquet"
# A temporary file as old as this belongs to nobody who still writes.
_STALE_SECONDS = 600.0
# Bytes of rows up to which a segment is written as it is.
_SMALL = 1 << 16
_NUMBERS = pa.list_(pa.float64())


class ParquetEventLog:
    """`EventLog` below `folder`; several processes may append to one folder."""

    def __init__(
        self, folder: Path, *, writer: str = "", disk: Disk = DISK, now: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._disk, self._now = folder, disk, now
        self._token, self._count = f"{writer or 'log'}-{uuid.uuid4().hex[:8]}", count()
        self._known: dict[tuple[Stream, str], Segment] = {}
        for stream in Stream:
            self._disk.folder(folder / stream.value)

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """See `EventSink`."""
        if events:
            self.append_table(stream, table_of(stream, events))

    def append_table(self, stream: Stream, table: pa.Table) -> None:
        """The same for a table of the stream's schema."""
        self._publish(stream, self._name(), table, ())

    def segments(self, stream: Stream) -> list[Segment]:
        """See `EventLog`."""
        listed = self._listed(stream)
        gone = _superseded(listed)
        return [one for one in listed if one.name not in gone]

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """See `EventLog`."""
        path = self._path(segment.stream, segment.name)
        names = stored_names(segment.stream, columns) if columns else None
        table = conformed(segment.stream, pq.ParquetFile(path).read(columns=names))
        return table.select(list(columns)) if columns else table

    def damage(self) -> Damage:
        """See `EventLog`."""
        torn = self._folder / "torn"
        return Damage(len(list(torn.iterdir())) if torn.exists() else 0)

    def compact(self, stream: Stream, segments: Sequence[Segment]) -> Segment | None:
        """One segment instead of several, in their order; None when there is nothing to merge."""
        self.tidy(stream)
        if len(segments) < 2:
            return None
        table = pa.concat_tables([self.read(one) for one in segments])
        leaves = tuple(leaf for one in segments for leaf in (one.inputs or (one.name,)))
        # Sorted where its rows were: readers go by name.
        name = f"{segments[-1].name.split('+')[0]}+{uuid.uuid4().hex[:8]}"
        made = self._publish(stream, name, table, leaves)
        for one in segments:
            self._disk.unlink(self._path(stream, one.name))
        return made

    def tidy(self, stream: Stream) -> None:
        """Deletes what a killed compaction left, and sets aside what killed writers left half-written."""
        for name in _superseded(self._listed(stream)):
            self._disk.unlink(self._path(stream, name))
        for path in (self._folder / stream.value).glob(".*.tmp"):
            if self._age(path) > _STALE_SECONDS:
                self._set_aside(path)

    def set_aside(self, stream: Stream, name: str, data: bytes) -> None:
        """Keeps what came for a stream and is no row of it; `damage` counts it. Raises `Unavailable`."""
        torn = self._folder / "torn"
        with self._refusing(stream):
            self._disk.replace(torn / f"{stream.value}-{name}", data)

    def _age(self, path: Path) -> float:
        """Seconds since it was written; of one that has its name by now, none: its writer lives."""
        try:
            return self._now() - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _listed(self, stream: Stream) -> list[Segment]:
        found = []
        for path in sorted((self._folder / stream.value).glob(f"*{_SUFFIX}")):
            if path.name.startswith("."):
                continue
            segment = self._describe(stream, path)
            if segment is not None:
                found.append(segment)
        return found

    def _describe(self, stream: Stream, path: Path) -> Segment | None:
        name = path.name.removesuffix(_SUFFIX)
        known = self._known.get((stream, name))
        if known is None:
            try:
                meta = pq.read_metadata(path)
            except FileNotFoundError:
                return None  # compacted since it was listed
            except (OSError, pa.ArrowInvalid):
                self._set_aside(path)
                return None
            inputs = json.loads((meta.metadata or {}).get(_INPUTS, b"[]"))
            known = self._known[stream, name] = Segment(stream, name, meta.num_rows, tuple(inputs))
        return known

    def _publish(self, stream: Stream, name: str, table: pa.Table, inputs: tuple[str, ...]) -> Segment:
        labelled = table.cast(SCHEMAS[stream]).replace_schema_metadata({_INPUTS: json.dumps(inputs).encode()})
        sink = pa.BufferOutputStream()
        # Numbers in lists are all different, and a few rows get no smaller: neither is worth time before the answer.
        repeating = [_leaf(one) for one in labelled.schema if one.type != _NUMBERS]
        compression = "zstd" if labelled.nbytes > _SMALL else "none"
        pq.write_table(labelled, sink, compression=compression, use_dictionary=repeating)
        with self._refusing(stream):
            self._disk.replace(self._path(stream, name), sink.getvalue().to_pybytes())
        return Segment(stream, name, len(table), inputs)

    @contextmanager
    def _refusing(self, stream: Stream) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise Unavailable(
                f"the event log cannot take {stream.value}",
                cause=str(fault),
                hint="free space below its folder; what was not acknowledged must be sent again",
            ) from fault

    def _name(self) -> str:
        """Sorts by time of writing."""
        return f"{int(self._now() * 1e6):016d}-{self._token}-{next(self._count):06d}"

    def _path(self, stream: Stream, name: str) -> Path:
        return self._folder / stream.value / f"{name}{_SUFFIX}"

    def _set_aside(self, path: Path) -> None:
        torn = self._folder / "torn"
        self._disk.folder(torn)
        self._disk.rename(path, torn / f"{path.parent.name}-{path.name.lstrip('.')}-{uuid.uuid4().hex[:6]}")


def _superseded(listed: Sequence[Segment]) -> set[str]:
    """Names of the segments whose rows are all in a larger one."""
    gone = {name for one in listed for name in one.inputs}
    merged = [(one.name, set(one.inputs)) for one in listed if one.inputs]
    return gone | {name for name, leaves in merged if any(leaves < others for _, others in merged)}


def _leaf(column: pa.Field) -> str:
    """Where parquet has the values of a column; by the name of a list it would find none, and say nothing."""
    return f"{column.name}.list.element" if pa.types.is_list(column.type) else str(column.name)
