"""Rows as they travel through Redis: one entry a call, a field a column; written without pyarrow, read into tables.

Invariant: a row comes back exactly as it was, also where JSON would change it: floats are their eight bytes. What is
not an entry of ours is told as such, never half read. pyarrow is imported by readers alone: a predictor only writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import orjson

from serinus.core.errors import DataError
from serinus.core.events import ROW_TYPES, Event, Stream

if TYPE_CHECKING:
    import pyarrow as pa

Fields = Mapping[bytes, bytes]
ROWS = "rows"
# Beside a column of lists of floats: how many are in each.
_LENGTHS = ".n"
_FLOATS = np.dtype("<f8")
# By these rows are folded, joined and counted; a release that adds a column to a row type adds none here.
_IDENTITY = {
    Stream.EXPOSURES: ("id", "request_id", "revision", "unit", "at", "as_of", "writer", "sequence"),
    Stream.SCORES: ("id", "request_id"),
    Stream.OUTCOMES: ("id", "request_id", "unit", "as_of"),
}
_KINDS = {
    stream: {one.name: get_type_hints(kind)[one.name] for one in fields(kind)} for stream, kind in ROW_TYPES.items()
}


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
    for name, kind in _KINDS[stream].items():
        values: list[Any] = [getattr(one, name) for one in events]
        if kind == tuple[float, ...]:
            entry[name + _LENGTHS] = orjson.dumps([len(one) for one in values])
            values = list(chain.from_iterable(values))
        packed = kind in (float, tuple[float, ...])
        entry[name] = np.array(values, dtype=_FLOATS).tobytes() if packed else orjson.dumps(values)
    return entry


def row_count(entry: Fields) -> int:
    """Rows of an entry. Raises `DataError` when it is none of ours."""
    try:
        return int(entry[ROWS.encode()])
    except (KeyError, ValueError) as fault:
        raise DataError("an entry of the event log has no count of rows") from fault


def decoded(stream: Stream, entry: Fields) -> pa.Table:
    """The rows as a table of the stream's schema; null in columns that an older release did not write.

    Raises `DataError` when it is not an entry of this stream, or lacks by what its rows are told apart.
    """
    import pyarrow as pa

    from serinus.evidence.rows import SCHEMAS, conformed

    rows = row_count(entry)
    try:
        known = [one for one in SCHEMAS[stream] if one.name.encode() in entry or one.name in _IDENTITY[stream]]
        table = pa.table({one.name: _column(entry, one) for one in known})
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


def _column(entry: Fields, field: pa.Field) -> pa.Array:
    import pyarrow as pa

    value = entry[field.name.encode()]
    if pa.types.is_float64(field.type):
        return pa.array(np.frombuffer(value, dtype=_FLOATS))
    if field.type == pa.list_(pa.float64()):
        lengths = orjson.loads(entry[(field.name + _LENGTHS).encode()])
        values = np.frombuffer(value, dtype=_FLOATS)
        if sum(lengths) != len(values):
            raise ValueError(f"{field.name}: lengths of {sum(lengths)} for {len(values)} numbers")
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        made = pa.ListArray.from_arrays(offsets, pa.array(values))
        made.validate(full=True)
        return made
    return pa.array(orjson.loads(value), type=field.type)
