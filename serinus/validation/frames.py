"""From an arrow table to the frame that contracts judge and problems clean: few dtypes, and no value that changes.

Invariant: whole numbers are int64 (Int64 with nulls), times datetime64[us] in UTC without zone, empty or blank text is
null; how the file stored them does not show. What these cannot hold exactly is a `DataError` that names the column.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from serinus.core.errors import DataError

_US = pa.timestamp("us")


def frame_of(table: pa.Table, name: str) -> pd.DataFrame:
    """The frame of a table whose column names differ; `name` is what errors call the source."""
    return pd.DataFrame({column: _series(table[column], f"{name}, column {column}") for column in table.column_names})


def empty_blanks(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text with null for what is empty or blank."""
    blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    return pc.if_else(blank, pa.scalar(None, text.type), text) if pc.any(blank).as_py() else text


def _series(column: pa.ChunkedArray, where: str) -> pd.Series:
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    for fits, convert in _CONVERSIONS:
        if fits(column.type):
            column = convert(column, where)
            break
    nullable = types.is_int64(column.type) and column.null_count
    mapper = {pa.int64(): pd.Int64Dtype()}.get if nullable else None
    try:
        # Whole numbers beside nulls within lists and structs would become floats.
        found: pd.Series = column.to_pandas(types_mapper=mapper, integer_object_nulls=True)
    except (pa.ArrowException, UnicodeDecodeError) as fault:
        raise DataError(f"{where} holds {column.type} that cannot be read", cause=str(fault)[:300]) from fault
    return found


def _text(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        column.validate(full=True)
        return empty_blanks(column.cast(pa.large_string()) if types.is_string_view(column.type) else column)
    except pa.ArrowInvalid as fault:
        raise DataError(f"{where} holds text that is not UTF-8", cause=str(fault)[:300]) from fault


def _whole(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as fault:
        raise DataError(
            f"{where} holds whole numbers beyond 64 bits with a sign", cause=str(fault), hint="store ids as text"
        ) from fault


def _decimal(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    if column.type.scale <= 0:
        return _whole(column, where)
    # By way of their text, which is read as the nearest double: arrow's own cast is often the one beside it.
    floats = column.cast(pa.string()).cast(pa.float64())
    try:
        # With room for all digits that a cast may need.
        wide = pa.decimal256(76, column.type.scale)
        same = pc.all(pc.equal(floats.cast(wide), column.cast(wide))).as_py() in (True, None)
    except pa.ArrowInvalid:  # rounding took it beyond the precision
        same = False
    if not same:
        hint = "store whole numbers without a fraction, and others with at most 15 digits"
        raise DataError(f"{where} holds decimals with more digits than a double has", hint=hint)
    return floats


def _time(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Microseconds of UTC; arrow's times with a zone are UTC inside, so that dropping it changes nothing."""
    try:
        # Finer digits are cut off, days and seconds must not overflow.
        fine = types.is_timestamp(column.type) and column.type.unit == "ns"
        zone = column.type.tz if types.is_timestamp(column.type) else None
        return column.cast(pa.timestamp("us", tz=zone), safe=not fine).cast(_US)
    except pa.ArrowInvalid as fault:
        raise DataError(f"{where} holds times that no calendar has", cause=str(fault)) from fault


_Convert = Callable[[pa.ChunkedArray, str], pa.ChunkedArray]
_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], _Convert], ...] = (
    (lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind), _text),
    (types.is_integer, _whole),
    (types.is_decimal, _decimal),
    (lambda kind: types.is_timestamp(kind) or types.is_date(kind), _time),
)
