"""The event log of the cluster as a whole: what predictors wrote to Redis Streams and no collector has moved yet.

Invariant: a segment is an entry: all rows of one call. It never changes, and is gone once a collector has it on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from serinus.core.errors import DataError, NotFound
from serinus.core.events import Stream
from serinus.evidence.entries import Entry, decoded, row_count
from serinus.evidence.log import Damage, Segment
from serinus.evidence.redis_streams import RedisEventSink


class RedisEventLog(RedisEventSink):
    """`EventLog` over the entries that wait in Redis."""

    def segments(self, stream: Stream) -> list[Segment]:
        """See `EventLog`. Reads every entry, a page at a time: there are as many as were not drained."""
        return [Segment(stream, one.id, rows) for one, rows in self._entries(stream) if rows]

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """See `EventLog`. Raises `NotFound` when the rows were drained."""
        entry = self.streams.find(segment.stream, segment.name)
        if entry is None:
            raise NotFound(f"the entry {segment.name} of {segment.stream.value} was drained", hint="list them again")
        table = decoded(segment.stream, entry.fields)
        return table.select(list(columns)) if columns else table

    def damage(self) -> Damage:
        """Entries that are none of ours. Redis itself drops what a crash left half-written: it was not acknowledged."""
        return Damage(sum(not rows for stream in Stream for _, rows in self._entries(stream)))

    def _entries(self, stream: Stream) -> Iterator[tuple[Entry, int]]:
        """With their rows, 0 for one that is none of ours."""
        after, more = "", True
        while more:
            page, more = self.streams.read(stream, after)
            for one in page:
                yield one, _rows(one)
            after = page[-1].id if page else after


def _rows(entry: Entry) -> int:
    try:
        return row_count(entry.fields)
    except DataError:
        return 0
