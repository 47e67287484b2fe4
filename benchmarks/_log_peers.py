"""The peers of benchmarks/event_log.py: SQLite and a JSON file that acknowledge rows, and DuckDB that reduces them.

Invariant: a peer acknowledges what is on disk, as we do, and reads the same files as we do.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import duckdb
from _log_data import DAY

from serinus.core.events import ROW_TYPES, Event, Stream


class SqliteSink:
    """Write-ahead log with `synchronous=FULL`: a commit returns when its rows are on disk. Lists are JSON texts."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "log.db")
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        for stream, kind in ROW_TYPES.items():
            columns = ", ".join(f'"{one.name}"' for one in fields(kind))
            self._db.execute(f"create table {stream.value} ({columns})")

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """One transaction."""
        marks = ", ".join("?" * len(fields(ROW_TYPES[stream])))
        rows = [[json.dumps(one) if isinstance(one, tuple) else one for one in row] for row in _rows(stream, events)]
        with self._db:
            self._db.executemany(f"insert into {stream.value} values ({marks})", rows)

    def rows(self, stream: Stream) -> list[list[object]]:
        """What is stored, in order, with lists for tuples."""
        found = self._db.execute(f"select * from {stream.value} order by rowid").fetchall()
        lists = [position for position, one in enumerate(fields(ROW_TYPES[stream])) if "tuple" in str(one.type)]
        whole = [list(row) for row in found]
        for row in whole:
            for position in lists:
                row[position] = json.loads(row[position])
        return whole


class JsonSink:
    """A line a row and one fsync a batch: the least that a log can do, with nothing for its reader."""

    def __init__(self, folder: Path) -> None:
        self._paths = {stream: folder / f"{stream.value}.jsonl" for stream in Stream}
        self._files = {stream: path.open("ab") for stream, path in self._paths.items()}

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """One write."""
        handle = self._files[stream]
        handle.write("".join(json.dumps(row) + "\n" for row in _rows(stream, events)).encode())
        handle.flush()
        os.fsync(handle.fileno())

    def rows(self, stream: Stream) -> list[list[object]]:
        """What is stored, in order."""
        return [json.loads(line) for line in self._paths[stream].read_text(encoding="utf-8").splitlines()]


def _rows(stream: Stream, events: Sequence[Event]) -> list[list[object]]:
    names = [one.name for one in fields(ROW_TYPES[stream])]
    return [[getattr(event, name) for name in names] for event in events]


# Straightforward: a row a candidate, joined with what was bought, grouped by request.
KPI_SQL = """
create temp table exposures as
  select distinct on (id) * from read_parquet('{log}/exposures/*.parquet') where as_of + {day} <= {now};
create temp table outcomes as select distinct on (id) * from read_parquet('{log}/outcomes/*.parquet');
create temp table bought as
  select e.id, o.item, sum(o.value) as worth from exposures e join outcomes o using (request_id)
  where o.name = 'bought' and o.as_of <= e.as_of + {day} and o.at <= e.as_of + {day} group by all;
create temp table shown as
  select id, unnest(items) as item, unnest(probabilities) as p, generate_subscripts(items, 1) as rank
  from read_parquet('{log}/scores/*.parquet') semi join exposures using (id);
create temp table ranked as
  select s.id,
    count(b.item) filter (rank <= 10)::double as hits_at_10,
    count(b.item) filter (rank <= 1)::double as top_1,
    least(count(b.item) filter (rank <= 5), 1)::double as conversion,
    least(coalesce(sum(b.worth) filter (rank <= 10), 0), 200)::double as revenue,
    -avg(case when b.item is null then ln(1 - greatest(least(p, 1 - 1e-15), 1e-15))
         else ln(greatest(least(p, 1 - 1e-15), 1e-15)) end) as log_loss,
    sum(p) as calibration_predicted, count(b.item)::double as calibration_observed
  from shown s left join bought b on s.id = b.id and s.item = b.item group by s.id;
create temp table returned as
  select distinct e.id from exposures e join outcomes o using (unit)
  where o.name = 'visit' and o.request_id = '' and o.as_of > e.as_of and o.as_of <= e.as_of + 30 * {day}
    and o.at <= e.as_of + 30 * {day};
copy (
  select e.id, e.request_id, e.revision, e.version, e.route, e.forced_arm, e.entity, e.unit, e.bucket, e.bucket_check,
    e.at, e.as_of, e.cold_start, e.latency_ms, e.error, e.covariates, r.* exclude (id),
    case when e.as_of + 30 * {day} <= {now} then (t.id is not null)::double end as retention,
    (e.error <> '')::double as error_rate, (e.latency_ms > 50)::double as slow_requests,
    e.cold_start::double as cold_starts
  from exposures e join ranked r using (id) left join returned t using (id)
) to '{target}' (format parquet, compression zstd);
"""


def duckdb_rows(log: Path, target: Path, now: float) -> None:
    """KPI rows of the requests whose day has closed at `now`, by retail's card, from all of the log."""
    with duckdb.connect() as db:
        db.execute(KPI_SQL.format(log=log, target=target, now=now, day=DAY))
