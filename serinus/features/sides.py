"""From arrow columns to the columns of a batch.

Invariant: offline and online lookups give the same Python values for the same stored value, missing ones included.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serinus.features.batch import Column, Floats, Objects, Ragged
from serinus.features.fitting import fitted


def to_column(values: pa.ChunkedArray | pa.Array) -> Column:
    """Numbers and times (epoch seconds) as float64 with NaN, text as object with None, lists as `Ragged`.

    A number that no model input can hold is missing.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    column = _ragged(array) if _is_list(array.type) else _plain(array)
    return fitted(column)[0]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _ragged(array: pa.Array) -> Ragged:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Ragged(_plain(pc.list_flatten(array)), offsets)


def _plain(array: pa.Array) -> Floats | Objects:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.array(array.to_pylist(), dtype=object)
    if pa.types.is_timestamp(array.type):
        micros = array.cast(pa.timestamp("us", tz=array.type.tz)).cast(pa.int64())
        return _floats(micros) / 1e6
    return _floats(array)


def _floats(array: pa.Array) -> Floats:
    return np.asarray(pc.fill_null(array.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False))
