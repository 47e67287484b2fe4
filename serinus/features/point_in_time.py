"""The as-of join: for each (keys, time) the latest feature row that was already valid then. A pure function of tables.

Invariant: every input row gives exactly one output row, in order, duplicates included; a missing key or value, or a row
older than the view's ttl, gives nulls. Equal event times are decided by the created time, then by the later row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from serinus.core.errors import DataError

ROW = "__row"
_INTEGERS = frozenset(f"{sign}{name}" for sign in ("", "U") for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"))


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


@dataclass(frozen=True)
class Limits:
    """What a query may use: 0 threads = all cores; what does not fit into `memory` goes to a temporary folder."""

    threads: int = 0
    memory: str = "2GB"


def point_in_time(
    entities: pa.Table, timestamp: str, views: Sequence[FeatureRows], limits: Limits = Limits()
) -> pa.Table:
    """`entities` with a column more for each feature.

    Times are compared as UTC microseconds, finer digits cut off; times without a zone are UTC. Raises `DataError` for
    rows that cannot be read or joined.
    """
    with _database(limits) as db:
        db.register("entities", entities.append_column(ROW, pa.array(range(len(entities)), type=pa.int64())))
        sources = [_source(db, f"rows_{position}", view) for position, view in enumerate(views)]
        for position, view in enumerate(views):
            _require_same_keys(_kinds(db, "entities"), _kinds(db, f"rows_{position}"), view)
        at = _micros(_kinds(db, "entities"), timestamp)
        return db.sql(_query(entities.column_names, at, views, sources)).to_arrow_table().drop_columns([ROW])


def rows_between(
    view: FeatureRows, start: datetime, end: datetime, *, latest: bool, limits: Limits = Limits()
) -> pa.Table:
    """Keys, features and times of the rows with start <= event time <= end; only the latest of each key if asked.

    Columns keep the names they have in the rows; times come back with a zone (UTC).
    """
    with _database(limits) as db:
        source = _source(db, "rows", view)
        times = {view.timestamp: "__ts"} | ({view.created: "__created"} if view.created else {})
        columns = [column for column in dict.fromkeys([*view.keys.values(), *view.features]) if column not in times]
        listed = [_quoted(column) for column in columns]
        listed += [f"{column} AT TIME ZONE 'UTC' AS {_quoted(name)}" for name, column in times.items()]
        query = f"SELECT {', '.join(listed)} FROM ({source}) WHERE __ts BETWEEN $start AND $end"  # noqa: S608
        if latest:
            query += f" QUALIFY {_first_of(list(view.keys.values()), view)}"
        return db.sql(query, params={"start": _naive(start), "end": _naive(end)}).to_arrow_table()


@contextmanager
def _database(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="serinus-join-") as spill:
        # Rows carry their own number, so DuckDB need not keep their order, which costs memory.
        settings: dict[str, str | bool | int | float | list[str]]
        settings = {"memory_limit": limits.memory, "temp_directory": spill, "preserve_insertion_order": False}
        settings |= {"threads": limits.threads} if limits.threads else {}
        with duckdb.connect(config=settings) as db:
            db.execute("SET TimeZone = 'UTC'")
            try:
                yield db
            except duckdb.Error as fault:
                hint = "allow the offline store more `memory`" if isinstance(fault, duckdb.OutOfMemoryException) else ""
                raise DataError("feature rows cannot be joined", cause=_first_line(fault), hint=hint) from fault


def _source(db: duckdb.DuckDBPyConnection, name: str, view: FeatureRows) -> str:
    """A query for the view's columns with its event time as `__ts` and the row's number as `__order`."""
    where = view.rows if isinstance(view.rows, Path) else "of a table"
    try:
        _register(db, name, view.rows)
    except duckdb.Error as fault:
        raise DataError(f"feature rows {where} cannot be read", cause=_first_line(fault)) from fault
    kinds = _kinds(db, name)
    columns = dict.fromkeys([*view.keys.values(), *view.features])
    missing = sorted({*columns, view.timestamp, *([view.created] if view.created else [])} - set(kinds))
    if missing:
        raise DataError(f"feature rows {where} lack the columns {', '.join(missing)}")
    created = f", {_micros(kinds, view.created)} AS __created" if view.created else ""
    listed = ", ".join(_quoted(column) for column in columns)
    return f"SELECT {listed}, {_micros(kinds, view.timestamp)} AS __ts, __order{created} FROM {name}"  # noqa: S608


def _require_same_keys(entities: Mapping[str, str], rows: Mapping[str, str], view: FeatureRows) -> None:
    """DuckDB would compare other types as doubles, which merges long ids, or as numbers, which takes 012 for 12."""
    for mine, theirs in view.keys.items():
        kinds = {"whole" if kind in _INTEGERS else kind for kind in (entities[mine], rows[theirs])}
        if kinds not in ({"whole"}, {"VARCHAR"}):
            raise DataError(
                f"feature rows cannot be joined by {mine}",
                cause=f"it is {entities[mine]} in the rows asked for and {rows[theirs]} in the feature rows",
                hint="keys are integers or text, the same on both sides",
            )


def _register(db: duckdb.DuckDBPyConnection, name: str, rows: Path | pa.Table) -> None:
    if isinstance(rows, Path):
        path = str(rows).replace("'", "''")
        db.execute(
            f"CREATE VIEW {name} AS SELECT *, file_row_number AS __order FROM "  # noqa: S608
            f"read_parquet('{path}', file_row_number = true)"
        )
    else:
        db.register(name, rows.append_column("__order", pa.array(range(len(rows)), type=pa.int64())))


def _kinds(db: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    return {column: kind for column, kind, *_ in db.execute(f"DESCRIBE {name}").fetchall()}


def _micros(kinds: Mapping[str, str], column: str) -> str:
    """A time column as UTC microseconds. DuckDB has no direct cast from nanoseconds with a zone."""
    inner = f"CAST({_quoted(column)} AS TIMESTAMP_NS)" if kinds.get(column) == "TIMESTAMPTZ_NS" else _quoted(column)
    return f"CAST({inner} AS TIMESTAMP)"


def _first_of(partition: Sequence[str], view: FeatureRows) -> str:
    """The condition that a row is the newest of its partition."""
    created = "__created DESC NULLS LAST, " if view.created else ""
    keys = ", ".join(_quoted(key) for key in partition)
    return f"row_number() OVER (PARTITION BY {keys} ORDER BY __ts DESC, {created}__order DESC) = 1"


def _query(columns: Sequence[str], at: str, views: Sequence[FeatureRows], sources: Sequence[str]) -> str:
    """One query for all views: each is an ASOF join of its rows, freed of ties, to the entity rows."""
    selected = [f"e.{_quoted(column)}" for column in [*columns, ROW]]
    joins = []
    for position, (view, source) in enumerate(zip(views, sources, strict=True)):
        name = f"v{position}"
        fresh = f"{name}.__ts >= e.__at - INTERVAL {view.ttl // timedelta(microseconds=1)} MICROSECONDS"
        for column, output in view.features.items():
            value = f"{name}.{_quoted(column)}"
            selected.append(f"{f'CASE WHEN {fresh} THEN {value} END' if view.ttl else value} AS {_quoted(output)}")
        joins.append(_join(name, view, source))
    entities = f"SELECT *, {at} AS __at FROM entities"  # noqa: S608
    return f"SELECT {', '.join(selected)} FROM ({entities}) e {' '.join(joins)} ORDER BY e.{ROW}"  # noqa: S608


def _join(name: str, view: FeatureRows, source: str) -> str:
    distinct = (
        f"SELECT * FROM ({source}) WHERE __ts IS NOT NULL "  # noqa: S608
        f"QUALIFY {_first_of([*view.keys.values(), '__ts'], view)}"
    )
    same = " AND ".join(f"e.{_quoted(mine)} = {name}.{_quoted(theirs)}" for mine, theirs in view.keys.items())
    return f"ASOF LEFT JOIN ({distinct}) {name} ON {same} AND e.__at >= {name}.__ts"


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _first_line(fault: Exception) -> str:
    return str(fault).partition("\n")[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
