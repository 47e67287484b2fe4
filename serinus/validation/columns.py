"""Columns of a pandas table in plain words, and in the few dtypes that every check treats alike.

Invariant: the kind of a column depends on its values, not on how they are stored; `plain` changes storage, never values
(but for times outside the years 1678 to 2261, which become the nearest of these, still newer or older than any other).
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.api import types

from serinus.validation.kinds import Kind

EMPTY, MIXED = "empty", "mixed"
_INFERRED = {
    "string": Kind.TEXT,
    "boolean": Kind.FLAG,
    "integer": Kind.WHOLE,
    "floating": Kind.NUMBER,
    "mixed-integer-float": Kind.NUMBER,
    "decimal": Kind.NUMBER,
    "datetime": Kind.TIME,
    "datetime64": Kind.TIME,
    "date": Kind.TIME,
    "empty": EMPTY,
}
_LARGEST_INT = 2**63 - 1
# From here on, neighbouring whole numbers are one double.
_LEAST_INEXACT = float(2**53)
_OLDEST, _NEWEST = np.datetime64("1678-01-01", "us"), np.datetime64("2261-12-31", "us")


def kind_of(column: pd.Series) -> str:
    """A `Kind`, or `empty` (no value at all), or `mixed` (values of several kinds, or of none of ours)."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return kind_of(pd.Series(dtype.categories))
    if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
        found = _INFERRED.get(types.infer_dtype(column, skipna=True), MIXED)
        return _kind_of_floats(as_floats(column)) if found == Kind.NUMBER else found
    if column.isna().all():
        return EMPTY
    if types.is_bool_dtype(dtype):
        return Kind.FLAG
    if types.is_datetime64_any_dtype(dtype):
        return Kind.TIME
    if types.is_integer_dtype(dtype):
        return Kind.WHOLE
    return _kind_of_floats(as_floats(column)) if types.is_float_dtype(dtype) else MIXED


def accepted(declared: Kind) -> list[str]:
    """The kinds that may be found where one is declared: whole numbers are numbers, no value breaks no kind."""
    return [declared.value, EMPTY, *([Kind.WHOLE.value] if declared is Kind.NUMBER else [])]


def is_numeric(column: pd.Series) -> bool:
    """Whether a column is stored as numbers (flags are not)."""
    return types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)


def plain(column: pd.Series) -> pd.Series:
    """The column as int64, float64, bool, datetime64[ns] in UTC without zone, or object; without its index.

    GX compares int32, float32 and other units of time one Python object at a time, thirty times slower. Whole numbers
    that a double would change are Int64, or uint64. Text that is empty or blank is null.
    """
    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    kind = kind_of(column) if types.is_object_dtype(column.dtype) else ""
    if types.is_datetime64_any_dtype(column.dtype) or kind == Kind.TIME:
        return _times(column)
    if is_numeric(column) or kind in (Kind.NUMBER, Kind.WHOLE):
        return _numbers(column)
    column = column.astype(object) if types.is_extension_array_dtype(column.dtype) else column
    return column.mask(blank(column), None) if kind_of(column) == Kind.TEXT else column


def blank(text: pd.Series) -> NDArray[np.bool_]:
    """Which values of a column of text are empty or blank."""
    cells = pa.array(text, type=pa.large_string(), from_pandas=True)
    found = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(cells), ""), False)
    return np.asarray(found.to_numpy(zero_copy_only=False))


def as_floats(column: pd.Series) -> NDArray[np.floating]:
    """The values as floats, NaN for null; without a copy where they are floats already."""
    values = column.to_numpy()
    if values.dtype.kind == "f":
        return np.asarray(values)
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def naive_utc(moment: datetime) -> pd.Timestamp:
    """The moment in UTC without zone; one without a zone is in UTC already."""
    return pd.Timestamp(moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment)


def _kind_of_floats(values: NDArray[np.floating]) -> str:
    numbers = values[np.isfinite(values)]
    if not len(numbers):
        return EMPTY if np.isnan(values).all() else Kind.NUMBER
    return Kind.WHOLE if bool((numbers == np.trunc(numbers)).all()) and len(numbers) else Kind.NUMBER


def _times(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    moments = column.to_numpy()
    if moments.dtype == object:
        moments = np.where(column.isna(), np.datetime64("NaT", "us"), moments)
    return pd.Series(np.clip(moments.astype("datetime64[us]"), _OLDEST, _NEWEST).astype("datetime64[ns]"))


def _numbers(column: pd.Series) -> pd.Series:
    """Exact: as doubles only where these are the same numbers."""
    if types.is_integer_dtype(column.dtype) and not column.isna().any():
        fits = not types.is_unsigned_integer_dtype(column.dtype) or int(column.max()) <= _LARGEST_INT
        return column.astype(np.int64) if fits else column.astype(np.uint64)
    floats = as_floats(column).astype(np.float64, copy=False)
    if column.dtype.kind == "f" or not (np.abs(floats) >= _LEAST_INEXACT).any():
        return pd.Series(floats)
    whole = kind_of(column) == Kind.WHOLE
    ints = [None if pd.isna(one) else int(one) for one in column] if whole else [None]
    inside = whole and all(one is None or -_LARGEST_INT - 1 <= one <= _LARGEST_INT for one in ints)
    return pd.Series(pd.array(ints, dtype="Int64")) if inside else pd.Series(floats)
