"""The as-of join: for each (keys, time) the latest feature row that was already valid then. A pure function of tables.

Invariant: every input row gives exactly one output row, in order, duplicates included; a missing key or value, or a row
older than the view's ttl, gives nulls. Equal event times are decided by the created time, then by the later row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

ROW = "__row"


@dataclass(frozen=True)
class FeatureRows:
    """One view's rows: a parquet file or an arrow table.

    `keys` maps columns of the entity table to columns here; `features` maps columns here to output names; `ttl` of zero
    means that rows never expire, else a row of exactly that age still counts.
    """

    rows: Path | pa.Table
    keys: Mapping[str, str]
    features: Mapping[str, str]
    timestamp: str
    created: str | None = None
    ttl: timedelta = field(default=timedelta(0))


def point_in_time(entities: pa.Table, timestamp: str, views: Sequence[FeatureRows], *, threads: int = 0) -> pa.Table:
    """`entities` with a column more for each feature. Times are compared as UTC microseconds; 0 threads = all cores."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        if threads:
            db.execute(f"SET threads = {int(threads)}")
        db.register("entities", entities.append_column(ROW, pa.array(range(len(entities)), type=pa.int64())))
        for position, view in enumerate(views):
            _register(db, f"rows_{position}", view)
        table = db.sql(_query(entities.column_names, timestamp, views)).to_arrow_table()
    return table.drop_columns([ROW])


def latest_rows(view: FeatureRows, start: str, end: str) -> pa.Table:
    """The latest row of each key with start <= event time <= end (UTC timestamps as text)."""
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        _register(db, "rows", view)
        keys = ", ".join(_quoted(key) for key in view.keys.values())
        query = f"""
            SELECT * FROM ({_source("rows", view)})
            WHERE __ts BETWEEN TIMESTAMP '{start}' AND TIMESTAMP '{end}'
            QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {_newest_first(view)}) = 1
        """  # noqa: S608 - names come from declarations and are quoted
        return db.sql(query).to_arrow_table()


def _register(db: duckdb.DuckDBPyConnection, name: str, view: FeatureRows) -> None:
    if isinstance(view.rows, Path):
        path = str(view.rows).replace("'", "''")
        db.execute(
            f"CREATE VIEW {name} AS SELECT *, file_row_number AS __order FROM "  # noqa: S608
            f"read_parquet('{path}', file_row_number = true)"
        )
        return
    rows = view.rows.append_column("__order", pa.array(range(len(view.rows)), type=pa.int64()))
    db.register(name, rows)


def _source(name: str, view: FeatureRows) -> str:
    """The view's columns with its event time as `__ts`."""
    columns = dict.fromkeys([*view.keys.values(), *view.features])
    created = f", CAST({_quoted(view.created)} AS TIMESTAMP) AS __created" if view.created else ""
    listed = ", ".join(_quoted(column) for column in columns)
    return f"SELECT {listed}, CAST({_quoted(view.timestamp)} AS TIMESTAMP) AS __ts, __order{created} FROM {name}"  # noqa: S608


def _newest_first(view: FeatureRows) -> str:
    created = "__created DESC NULLS LAST, " if view.created else ""
    return f"__ts DESC, {created}__order DESC"


def _query(columns: Sequence[str], timestamp: str, views: Sequence[FeatureRows]) -> str:
    """One query for all views: each is an ASOF join of its rows, freed of ties, to the entity rows."""
    selected = [f"e.{_quoted(column)}" for column in [*columns, ROW]]
    joins = []
    for position, view in enumerate(views):
        name = f"v{position}"
        fresh = "" if not view.ttl else _fresh(name, view.ttl)
        for column, output in view.features.items():
            value = f"{name}.{_quoted(column)}"
            selected.append(f"{f'CASE WHEN {fresh} THEN {value} END' if fresh else value} AS {_quoted(output)}")
        joins.append(_join(name, position, view))
    entities = f"SELECT *, CAST({_quoted(timestamp)} AS TIMESTAMP) AS __at FROM entities"  # noqa: S608
    return f"SELECT {', '.join(selected)} FROM ({entities}) e {' '.join(joins)} ORDER BY e.{ROW}"  # noqa: S608


def _fresh(name: str, ttl: timedelta) -> str:
    return f"{name}.__ts >= e.__at - INTERVAL {int(ttl.total_seconds() * 1e6)} MICROSECONDS"


def _join(name: str, position: int, view: FeatureRows) -> str:
    keys = ", ".join(_quoted(key) for key in view.keys.values())
    distinct = f"""
        SELECT * FROM ({_source(f"rows_{position}", view)}) WHERE __ts IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY {keys}, __ts ORDER BY {_newest_first(view)}) = 1
    """  # noqa: S608
    same = " AND ".join(f"e.{_quoted(mine)} = {name}.{_quoted(theirs)}" for mine, theirs in view.keys.items())
    return f"ASOF LEFT JOIN ({distinct}) {name} ON {same} AND e.__at >= {name}.__ts"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
