"""Rows of the event log as arrow tables.

Invariant: the schema of a stream is that of its row type, and nothing else; a table of the release before is read as if
it had been written by this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.events import Before, Column, Event, Stream, columns

_KINDS: dict[object, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[float, ...]: pa.list_(pa.float64()),
}


def schema_of(of: Sequence[Column]) -> pa.Schema:
    """Columns as arrow has them: texts, 64-bit numbers, truth values and lists of them."""
    return pa.schema([(one.name, _KINDS[one.kind]) for one in of])


SCHEMAS = {stream: schema_of(columns(stream)) for stream in Stream}


def upgraded(of: Sequence[Column], table: pa.Table) -> pa.Table:
    """A table as read, with these columns as this release writes them; its other columns are left as they are.

    What a release before did not write is what it would have written, else null.
    """
    for one, kind in zip(of, schema_of(of), strict=True):
        table = _upgraded(one, kind, table)
    return table


def conformed(stream: Stream, table: pa.Table) -> pa.Table:
    """`upgraded`, with the columns of the stream and no other."""
    return upgraded(columns(stream), table).select(SCHEMAS[stream].names)


def stored_names(stream: Stream, wanted: Sequence[str]) -> list[str]:
    """Under which names some columns may be in a file."""
    return [name for one in columns(stream) if one.name in wanted for name in (one.name, one.before.name) if name]


def table_of(stream: Stream, events: Sequence[Event]) -> pa.Table:
    """One row an event, in order."""
    made = [pa.array([getattr(one, kind.name) for one in events], type=kind.type) for kind in SCHEMAS[stream]]
    return pa.Table.from_arrays(made, schema=SCHEMAS[stream])


def _upgraded(column: Column, field: pa.Field, table: pa.Table) -> pa.Table:
    before, names = column.before, table.column_names
    if column.name not in names and before.name in names:
        table = table.rename_columns([column.name if one == before.name else one for one in names])
    elif column.name not in names:
        table = table.append_column(field, _absent(before, field, len(table)))
    if not before.prefix:
        return table
    return table.set_column(table.column_names.index(column.name), field, _prefixed(table[column.name], before.prefix))


def _absent(before: Before, field: pa.Field, rows: int) -> pa.Array:
    if before.value is None:
        return pa.nulls(rows, field.type)
    return pa.repeat(pa.scalar(before.value, type=field.type), rows)


def _prefixed(texts: pa.ChunkedArray, prefix: str) -> pa.ChunkedArray:
    whole = pc.match_substring(texts, prefix[-1])
    return pc.if_else(whole, texts, pc.binary_join_element_wise(prefix, texts, ""))
