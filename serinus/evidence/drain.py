"""Moves rows from where predictors leave them to the parquet log, for as long as a collector lives.

Invariant: an entry is trimmed only once its rows are in a segment on disk; killed in between, its rows come again, and
readers fold them by id. What is beside an exposure reaches the disk before it, as it was written. No fault ends the
drain: it waits, longer each time, and goes on where it was.
"""

from __future__ import annotations

import logging
import threading
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import pyarrow as pa

from serinus.core.errors import DataError
from serinus.core.events import BESIDE, Stream
from serinus.evidence.entries import Entry, decoded
from serinus.evidence.parquet_log import ParquetEventLog

_log = logging.getLogger("serinus.drain")


class Source(Protocol):
    """Entries that wait, oldest first. Every method may raise `Unavailable`."""

    def read(self, stream: Stream, after: str = "", most_bytes: int = 1) -> tuple[list[Entry], bool]:
        """Entries from the oldest on, and whether there may be others."""

    def trim(self, stream: Stream, through: str) -> None:
        """Drops the entries up to one, and that one."""

    def waiting(self, stream: Stream) -> int:
        """Entries that were not trimmed."""


@dataclass(frozen=True)
class DrainSettings:
    """Seconds between rounds; the most seconds between tries; bytes of entries that become one segment."""

    every: float = 1.0
    longest: float = 10.0
    segment_bytes: int = 8 << 20


class Drain:
    """One round after another, in a thread between `start` and `stop`.

    `moved` counts rows on disk, `waiting` entries as of the last round, by stream; `fault` is why that one failed.
    """

    def __init__(
        self, source: Source | Sequence[Source], log: ParquetEventLog, settings: DrainSettings | None = None
    ) -> None:
        """Several sources are moved one after the other in each round."""
        self._sources = tuple(source) if isinstance(source, Sequence) else (source,)
        self._log, self._settings = log, settings or DrainSettings()
        self.moved = dict.fromkeys(Stream, 0)
        self.waiting = dict.fromkeys(Stream, 0)
        self.fault = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)

    def start(self) -> None:
        """Begins; at once with what was left by the one before."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the round under way has ended; what still waits stays where it is."""
        self._stopping.set()
        self._thread.join()

    def once(self) -> bool:
        """One round; whether more is there to be moved at once. Raises `Unavailable`."""
        more = [self._round(one) for one in self._sources]
        self.waiting = {stream: sum(one.waiting(stream) for one in self._sources) for stream in Stream}
        return any(more)

    def _round(self, source: Source) -> bool:
        # Exposures are read first: what is beside every one of them was written before, so it is moved before it.
        exposures, more = source.read(Stream.EXPOSURES, most_bytes=self._settings.segment_bytes)
        for stream in (*BESIDE, Stream.OUTCOMES):
            self._move_all(source, stream)
        self._put(source, Stream.EXPOSURES, exposures)
        return more

    def _move_all(self, source: Source, stream: Stream) -> None:
        """All that is there now; a stream is exhausted faster than it is filled."""
        more = True
        while more:
            entries, more = source.read(stream, most_bytes=self._settings.segment_bytes)
            self._put(source, stream, entries)

    def _put(self, source: Source, stream: Stream, entries: list[Entry]) -> None:
        """One segment on disk, and then they are dropped."""
        tables = [table for one in entries if (table := self._table(stream, one)) is not None]
        if tables:
            table = pa.concat_tables(tables)
            self._log.append_table(stream, table)
            self.moved[stream] += len(table)
        if entries:
            source.trim(stream, entries[-1].id)

    def _table(self, stream: Stream, entry: Entry) -> pa.Table | None:
        """Its rows. What cannot be read must not keep back what comes after it: it is set aside, whole, and counted."""
        try:
            return decoded(stream, entry.fields)
        except DataError as fault:
            _log.error("entry %s is set aside: %s (%s)", entry.id, fault.headline, fault.cause)
            fields = {name.decode("latin-1"): b64encode(value).decode() for name, value in entry.fields.items()}
            self._log.set_aside(stream, entry.id, orjson.dumps(fields))
            return None

    def _run(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            more = self._try()
            tries = tries + 1 if self.fault else 0
            pause = min(self._settings.every * 2 ** min(tries, 10), self._settings.longest)
            self._stopping.wait(0 if more else pause)

    def _try(self) -> bool:
        try:
            more = self.once()
        except Exception as fault:  # noqa: BLE001 - the edge of a thread: whatever it is, the rows must still be moved
            if not self.fault:
                _log.error("events wait where predictors wrote them", exc_info=fault)
            self.fault = f"{fault} ({getattr(fault, 'cause', type(fault).__name__)})"
            return False
        if self.fault:
            _log.warning("events are moved again")
        self.fault = ""
        return more
