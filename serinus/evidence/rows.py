"""Rows of the event log as arrow tables.

Invariant: the schema of a stream is that of its row type, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import get_type_hints

import pyarrow as pa

from serinus.core.events import ROW_TYPES, Event, Stream

_KINDS: dict[object, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[float, ...]: pa.list_(pa.float64()),
}


def _schema(stream: Stream) -> pa.Schema:
    hints = get_type_hints(ROW_TYPES[stream])
    return pa.schema([(one.name, _KINDS[hints[one.name]]) for one in fields(ROW_TYPES[stream])])


SCHEMAS = {stream: _schema(stream) for stream in Stream}


def conformed(stream: Stream, table: pa.Table) -> pa.Table:
    """A table as read from a file: columns that a release before this one did not write are null."""
    for one in SCHEMAS[stream]:
        if one.name not in table.column_names:
            table = table.append_column(one, pa.nulls(len(table), one.type))
    return table.select(SCHEMAS[stream].names)


def table_of(stream: Stream, events: Sequence[Event]) -> pa.Table:
    """One row an event, in order."""
    columns = [pa.array([getattr(one, kind.name) for one in events], type=kind.type) for kind in SCHEMAS[stream]]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[stream])
