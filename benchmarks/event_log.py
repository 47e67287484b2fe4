"""Acknowledged events a second, and a log to KPI rows with its memory: `python benchmarks/event_log.py [--quick]`.

Writing (alone with `--writing`): batches as the predictor and the collector make them, each on disk before the next, to
files and to Redis Streams, against SQLite and against a file of JSON lines; and how fast a collector moves them out of
Redis. Reading: 1 M exposures of 100 items and 100 k outcomes to the KPI rows of retail's card, from scratch and after
one more segment, against DuckDB on the same files. Every reduction is a process of its own, whose peak memory and CPU
time are taken; KPI rows must be equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _bench import finish, timed
from _log_data import DAY, OUTCOME_ROWS, REQUEST_ROWS, Size, fill, happened, one_more, shown
from _log_peers import JsonSink, SqliteSink, duckdb_rows
from _log_redis import redis_sink

from serinus.core.events import Event, Stream
from serinus.evidence.log import Segment
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder
from serinus.wiring.project import open_project

FULL, QUICK = Size(1_000_000, 100_000), Size(20_000, 2_000)
# Rows a batch: 0.1 s of a predictor with 200 requests/s, and the largest; a small batch of outcomes, and the largest.
WRITES = (
    ("predictor", 20, 100),
    ("predictor", REQUEST_ROWS, 5),
    ("collector", 10, 100),
    ("collector", OUTCOME_ROWS, 20),
)
SINKS = {"ours": ParquetEventLog, "sqlite": SqliteSink, "json": JsonSink}
AT_ONCE = ("error_rate", "slow_requests", "cold_starts")
OF_A_DAY = (
    "hits_at_10", "top_1", "conversion", "revenue", "log_loss", "calibration_predicted", "calibration_observed",
)  # fmt: skip
# Sums of many numbers, in another order.
INEXACT, TOLERANCE = ("revenue", "log_loss", "calibration_predicted"), 1e-9
Batch = tuple[tuple[Stream, Sequence[Event]], ...]
Rows = list[tuple[str, str, float, float]]


def main(arguments: list[str]) -> None:
    """Both halves; a child gets one reduction."""
    if arguments[:1] == ["--child"]:
        child(arguments[1], Path(arguments[2]), float(arguments[3]))
        return
    quick = "--quick" in arguments
    notes: dict[str, object] = {}
    rows = [row for write in WRITES for row in acknowledged(*write, 5 if quick else 1, notes)]
    if "--writing" not in arguments:
        with tempfile.TemporaryDirectory() as folder:
            rows += reduced(Path(folder), QUICK if quick else FULL, notes)
    finish("event_log", rows, notes)


def acknowledged(who: str, size: int, batches: int, shorter: int, notes: dict[str, object]) -> Rows:
    """Microseconds an event until its batch is on disk; the four logs take turns, and must hold the same rows."""
    work = [batch_of(who, size)] * max(batches // shorter, 2)
    with tempfile.TemporaryDirectory() as home, redis_sink(Path(home) / "redis") as on_redis:
        folders = {name: Path(home) / name for name in SINKS}
        for folder in folders.values():
            folder.mkdir()
        sinks = {name: kind(folders[name]) for name, kind in SINKS.items()} | {"redis": on_redis}
        spent = dict.fromkeys(sinks, 0.0)
        for batch in work:
            for name, sink in sinks.items():
                spent[name] += timed(partial(write, sink, batch))[1]
        check_same_rows(sinks, [stream for stream, _ in work[0]])
        moved, took = timed(partial(on_redis.drained, Path(home) / "drained"))
    case, events = f"{who}, {size:,} a batch", size * len(work)
    assert moved == events * len(work[0])
    notes[f"{case}, acknowledged events/s"] = ", ".join(f"{name} {events / one:,.0f}" for name, one in spent.items())
    notes[f"{case}, events/s moved from redis to files"] = f"{events / took:,.0f}"
    each = {name: 1e6 * one / events for name, one in spent.items()}
    pairs = [(mine, peer) for mine in ("ours", "redis") for peer in ("sqlite", "json")]
    return [(case, f"us an event, {mine} against {peer}", each[mine], each[peer]) for mine, peer in pairs]


def batch_of(who: str, size: int) -> Batch:
    """Scores before exposures, as the writer does it; or outcomes."""
    if who == "collector":
        return ((Stream.OUTCOMES, happened(size)),)
    rows = shown(size)
    return (Stream.SCORES, [one for _, one in rows]), (Stream.EXPOSURES, [one for one, _ in rows])


def write(sink: Any, batch: Batch) -> None:
    for stream, events in batch:
        sink.append(stream, events)


def check_same_rows(sinks: dict[str, Any], streams: list[Stream]) -> None:
    """Raises AssertionError otherwise."""
    for stream in streams:
        log = sinks["ours"]
        held = pa.concat_tables([log.read(one) for one in log.segments(stream)])
        ours = [list(row.values()) for row in held.to_pylist()]
        assert all(ours == sinks[one].rows(stream) for one in ("redis", "sqlite", "json"))


def reduced(folder: Path, size: Size, notes: dict[str, object]) -> Rows:
    """From scratch, and after one more segment."""
    log = ParquetEventLog(folder / "log")
    _, took = timed(partial(fill, log, size))
    notes["log written in"] = (
        f"{took:.0f} s, {sum(one.stat().st_size for one in folder.rglob('*.parquet')) / 1e6:,.0f} MB"
    )
    scratch, now = measured(folder, size.end), one_more(log, size)
    again = measured(folder, now)
    rows = []
    for case, found in ((f"{size.exposures:,} exposures to KPI rows", scratch), ("after one more segment", again)):
        figures = [(one, found["ours"][one], found["duckdb"][one]) for one in ("seconds", "cpu_seconds", "peak_mb")]
        rows += [(case, f"{one}, against duckdb", mine, theirs) for one, mine, theirs in figures]
        notes[f"{case}, segments read by ours"] = found["ours"]["segments_read"]
        notes[f"{case}, requests with equal KPI rows"] = f"{found['compared']:,}"
    assert again["ours"]["segments_read"] == len(Stream)
    notes["counters at the end"] = again["ours"]["counters"]
    return rows


def measured(folder: Path, now: float) -> dict[str, Any]:
    """Both ways, one after the other, each in a process of its own; then a look whether they agree."""
    found: dict[str, Any] = {}
    for way in ("ours", "duckdb"):
        command = [sys.executable, __file__, "--child", way, str(folder), str(now)]
        found[way] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found | {"compared": check_same_kpis(folder, now)}


def child(way: str, folder: Path, now: float) -> None:
    """Reduces, and prints what it took; start and imports are left out of the times, not out of the memory."""
    work = partial(ours, folder, now) if way == "ours" else partial(duckdb_rows, folder / "log", peer_file(folder), now)
    before = time.process_time()
    more, seconds = timed(work)
    document = {"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak_mb()}
    sys.stdout.write(json.dumps(document | (more or {})))


def ours(folder: Path, now: float) -> dict[str, Any]:
    """One run of the reduction, with the segments it read."""
    log = CountingLog(folder / "log")
    counters = reducer(log, folder).reduce(now)
    return {"segments_read": log.reads, "counters": counters.model_dump()}


class CountingLog(ParquetEventLog):
    """Counts how often a segment is read."""

    reads = 0

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """See `EventLog`."""
        self.reads += 1
        return super().read(segment, columns)


def reducer(log: ParquetEventLog, folder: Path) -> KpiReducer:
    """By retail's card."""
    card = open_project({}, start=Path(__file__).parent).problem("retail").card
    return KpiReducer(log, StateFolder(folder / "reduced"), KpiPlan.of(card))


def peer_file(folder: Path) -> Path:
    """Where DuckDB leaves its KPI rows."""
    return folder / "duckdb.parquet"


def peak_mb() -> float:
    """The most memory that this process held; `ru_maxrss` would begin with that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def check_same_kpis(folder: Path, now: float) -> int:
    """Every KPI of every request, value by value; the number of requests. Raises AssertionError otherwise."""
    found = reducer(ParquetEventLog(folder / "log"), folder).rows()
    theirs = pq.read_table(peer_file(folder))
    for window, names in ((0.0, AT_ONCE), (DAY, OF_A_DAY), (30 * DAY, ("retention",))):
        mine = found.filter(pc.equal(found["window"], window)).select(["id", "as_of", *names])
        # At once closes more than DuckDB was asked for, thirty days less.
        mine = mine.filter(pc.less_equal(mine["as_of"], now - DAY)).sort_by("id")
        due = theirs.filter(pc.less_equal(theirs["as_of"], now - max(window, DAY))).sort_by("id")
        assert len(mine)
        assert mine["id"] == due["id"], window
        for name in names:
            pair = mine[name].to_numpy(), due[name].cast(pa.float64()).to_numpy()
            np.testing.assert_allclose(*pair, rtol=TOLERANCE if name in INEXACT else 0, atol=0, err_msg=name)
    return len(theirs)


if __name__ == "__main__":
    main(sys.argv[1:])
