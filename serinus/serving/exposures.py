"""Writes exposures, and what is beside them, behind the request: the answer never waits for a disk.

Invariant: every exposure put is sooner or later on disk or counted as lost, with its sequence number given out before;
the oldest waits at most `flush_every` seconds while the log takes rows.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from serinus.core.errors import Unavailable
from serinus.core.events import BESIDE, Event, Exposure, Stream
from serinus.core.ports import EventSink
from serinus.serving.metrics import ServingMetrics
from serinus.serving.sequence import Sequence

Row = tuple[Exposure, Mapping[Stream, Event]]


@dataclass(frozen=True)
class WriterSettings:
    """Seconds between flushes, rows a flush, rows that may wait, and tries at the end."""

    flush_every: float = 0.1
    batch: int = 2_000
    capacity: int = 20_000
    last_tries: int = 5


class ExposureWriter:
    """A thread that flushes; `put` is called by the request."""

    def __init__(
        self,
        sink: EventSink,
        sequence: Sequence,
        metrics: ServingMetrics,
        settings: WriterSettings | None = None,
        report: Callable[[Unavailable], object] = str,
    ) -> None:
        self._sink, self._sequence, self._metrics = sink, sequence, metrics
        self._settings, self._report = settings or WriterSettings(), report
        self._rows: deque[Row] = deque()
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    def put(self, exposure: Exposure, beside: Mapping[Stream, Event]) -> bool:
        """Takes a row to be written; False when too many wait, which loses it and counts it."""
        numbered = replace(exposure, writer=self._sequence.writer, sequence=self._sequence.next())
        with self._lock:
            if self._closing or len(self._rows) >= self._settings.capacity:
                self._metrics.lost.labels("closed" if self._closing else "full").inc()
                return False
            self._rows.append((numbered, beside))
            self._metrics.waiting.set(len(self._rows))
        return True

    def close(self) -> None:
        """Writes what waits, in a few tries; what still cannot be written is counted as lost."""
        with self._lock:
            self._closing = True
        self._wake.set()
        self._thread.join()
        for _ in range(self._settings.last_tries):
            while self._rows and self._flush():
                pass
            if self._rows:
                time.sleep(self._settings.flush_every)
        self._metrics.lost.labels("unwritten").inc(len(self._rows))
        self._rows.clear()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._settings.flush_every)
            while self._rows and self._flush():
                pass

    def _flush(self) -> bool:
        """One batch, oldest first; kept when the log refuses. Exposures go last: one on disk has what is beside it."""
        with self._lock:
            batch = [self._rows[i] for i in range(min(len(self._rows), self._settings.batch))]
        try:
            for stream in BESIDE:
                self._append(stream, [beside[stream] for _, beside in batch if stream in beside])
            self._append(Stream.EXPOSURES, [exposure for exposure, _ in batch])
        except Exception as fault:  # noqa: BLE001 - the edge of a thread: without it rows would wait and not be counted
            self._report(fault if isinstance(fault, Unavailable) else _unforeseen(fault))
            return False
        with self._lock:
            for _ in batch:
                self._rows.popleft()
            self._metrics.waiting.set(len(self._rows))
        self._metrics.written.inc(len(batch))
        return True

    def _append(self, stream: Stream, rows: list[Event]) -> None:
        if rows:
            self._sink.append(stream, rows)
            self._metrics.rows.labels(stream.value).inc(len(rows))


def _unforeseen(fault: Exception) -> Unavailable:
    return Unavailable("the event log cannot take exposures", cause=f"{type(fault).__name__}: {fault}")
