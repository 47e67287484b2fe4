"""The event log on Redis Streams for benchmarks/event_log.py: a server that syncs each append, in a folder of its own.

Invariant: it is stopped when the benchmark ends, and acknowledges what is on disk, or our adapter refuses it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers import redis_server

from serinus.core.events import Event, Stream
from serinus.core.names import ServiceRef
from serinus.evidence.drain import Drain
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_log import RedisEventLog


class RedisSink:
    """Our adapter, with what benchmarks ask of a log."""

    def __init__(self, address: str) -> None:
        self._log = RedisEventLog(address, ServiceRef.parse("bench"))

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """One entry."""
        self._log.append(stream, events)

    def rows(self, stream: Stream) -> list[list[object]]:
        """What is stored, in order, with lists for tuples."""
        held = pa.concat_tables([self._log.read(one) for one in self._log.segments(stream)])
        return [list(row.values()) for row in held.to_pylist()]

    def drained(self, folder: Path) -> int:
        """Moves all of it to files; the number of rows."""
        drain = Drain(self._log.streams, ParquetEventLog(folder))
        while drain.once():
            pass
        return sum(drain.moved.values())


@contextmanager
def redis_sink(folder: Path) -> Iterator[RedisSink]:
    """A log and its server."""
    folder.mkdir()
    with redis_server(folder, durable=True) as server:
        yield RedisSink(server.address)
