"""The event log as its readers see it: segments of rows, in arrow tables.

Invariant: a segment never changes once it is listed; what is listed was acknowledged or is about to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from serinus.core.events import Stream
from serinus.core.ports import EventSink


@dataclass(frozen=True)
class Segment:
    """An immutable run of rows. A compacted one names the segments whose rows it holds in `inputs`."""

    stream: Stream
    name: str
    rows: int
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Damage:
    """What a crash or a faulty disk left behind: files set aside, which no acknowledged row was only in."""

    torn_files: int = 0


class EventLog(EventSink, Protocol):
    """`EventSink` with the reading side. Rows come at least once; the reader folds them by id."""

    def segments(self, stream: Stream) -> list[Segment]:
        """All segments, oldest first; one that a compacted segment replaces is not listed beside it."""

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows with the fields of the stream's row type as columns; lists for tuples."""

    def damage(self) -> Damage:
        """Counted since the log was made."""
