"""Rows as they travel through Redis: one entry a call, a field a column; written without pyarrow, read into tables.

Invariant: a row comes back exactly as it was, also where JSON would change it: floats are their eight bytes. What is
not an entry of ours is told as such, never half read. pyarrow is imported by readers alone: a predictor only writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from serinus.core.errors import DataError
from serinus.core.events import Column, Event, Stream, Use, columns

if TYPE_CHECKING:
    import pyarrow as pa

Fields = Mapping[bytes, bytes]
ROWS = "rows"
# Beside a column of lists of floats: how many are in each.
_LENGTHS = ".n"
_FLOATS = np.dtype("<f8")


@dataclass(frozen=True)
class Entry:
    """One call's rows; `id` is Redis's, rising."""

    id: str
    fields: Fields

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return sum(map(len, self.fields.values()))


def encoded(stream: Stream, events: Sequence[Event]) -> dict[str, bytes]:
    """The fields of an entry: `rows`, and a column each: float64 little-endian, or a JSON list."""
    entry = {ROWS: b"%d" % len(events)}
    for column in columns(stream):
        values: list[Any] = [getattr(one, column.name) for one in events]
        if column.kind == tuple[float, ...]:
            entry[column.name + _LENGTHS] = orjson.dumps([len(one) for one in values])
            values = list(chain.from_iterable(values))
        packed = column.kind in (float, tuple[float, ...])
        entry[column.name] = np.array(values, dtype=_FLOATS).tobytes() if packed else orjson.dumps(values)
    return entry


def row_count(entry: Fields) -> int:
    """Rows of an entry. Raises `DataError` when it is none of ours."""
    try:
        return int(entry[ROWS.encode()])
    except (KeyError, ValueError) as fault:
        raise DataError("an entry of the event log has no count of rows") from fault


def decoded(stream: Stream, entry: Fields) -> pa.Table:
    """The rows as a table of the stream's schema, also those of the release before (`serinus.evidence.rows.upgraded`).

    Raises `DataError` when it is not an entry of this stream, or lacks by what its rows are told apart.
    """
    import pyarrow as pa

    from serinus.evidence.rows import SCHEMAS, conformed

    rows = row_count(entry)
    try:
        stored = {one.name: _stored_as(one, entry) for one in columns(stream)}
        known = [one for one in SCHEMAS[stream] if stored[one.name]]
        table = pa.table({one.name: _column(entry, stored[one.name], one.type) for one in known})
        conforming = conformed(stream, table).cast(SCHEMAS[stream])
    except (ValueError, TypeError, KeyError, OverflowError, pa.ArrowException) as fault:
        cause = f"{type(fault).__name__}: {fault}"
        raise DataError(f"an entry of {stream.value} cannot be read", cause=cause) from fault
    if len(conforming) != rows or not rows:
        raise DataError(f"an entry of {stream.value} says {rows} rows and has {len(conforming)}")
    holed = [one.name for one in known if conforming[one.name].null_count]
    if holed:
        raise DataError(f"an entry of {stream.value} has nothing in some rows of {', '.join(holed)}")
    return conforming


def _stored_as(column: Column, entry: Fields) -> str:
    """The field of an entry that holds a column; empty where it may be missing, and is."""
    names = (column.name, column.before.name)
    found = next((name for name in names if name and name.encode() in entry), "")
    return found or (column.name if Use.IDENTITY in column.uses else "")


def _column(entry: Fields, name: str, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    value = entry[name.encode()]
    if pa.types.is_float64(kind):
        return pa.array(np.frombuffer(value, dtype=_FLOATS))
    if kind == pa.list_(pa.float64()):
        lengths = orjson.loads(entry[(name + _LENGTHS).encode()])
        values = np.frombuffer(value, dtype=_FLOATS)
        if sum(lengths) != len(values):
            raise ValueError(f"{name}: lengths of {sum(lengths)} for {len(values)} numbers")
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        made = pa.ListArray.from_arrays(offsets, pa.array(values))
        made.validate(full=True)
        return made
    return pa.array(orjson.loads(value), type=kind)
