"""Keeps the event log to few files: segments that were read are merged, once, when there are many.

Invariant: only segments that the reduction has read are merged, while it holds its lock; so none is read again, and no
reader loses a file under its hands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from serinus.core.events import Stream
from serinus.evidence.parquet_log import ParquetEventLog

MOST_SMALL = 256
Tidy = Callable[[Mapping[str, Sequence[str]]], None]


def compaction(log: ParquetEventLog, most: int = MOST_SMALL) -> Tidy:
    """Takes the names read by stream; merges those of a stream once there are `most` that were never merged."""

    def tidy(read: Mapping[str, Sequence[str]]) -> None:
        for stream in Stream:
            known = set(read.get(stream.value, ()))
            small = [one for one in log.segments(stream) if not one.inputs and one.name in known]
            if len(small) >= most:
                log.compact(stream, small)

    return tidy
