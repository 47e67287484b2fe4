"""A batch on disk: one parquet file a side and one for the rows, so another process scores exactly what was looked up.

Invariant: `read_batch(write_batch(b))` gives the same columns, missing values included.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serinus.features.batch import Batch, Column, Floats, Objects, Ragged, Side

_ENTITY, _ITEM, _ROWS = "entity.parquet", "item.parquet", "rows.parquet"
_CONTEXT = "context:"


def write_batch(folder: Path, batch: Batch) -> None:
    """Writes the batch into `folder` (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_side(folder / _ENTITY, batch.entity)
    if batch.item is not None:
        _write_side(folder / _ITEM, batch.item)
    rows = {"entity_row": batch.entity_row, "item_row": batch.item_row, "as_of": batch.as_of}
    rows |= {_CONTEXT + name: values for name, values in batch.context.items()}
    pq.write_table(pa.table(rows), folder / _ROWS, compression="zstd")


def read_batch(folder: Path) -> Batch:
    """The batch that `write_batch` wrote."""
    rows = pq.ParquetFile(folder / _ROWS).read()
    item = _read_side(folder / _ITEM) if (folder / _ITEM).exists() else None
    entity_row, item_row = (rows[name].to_numpy().astype(np.int64) for name in ("entity_row", "item_row"))
    context = {
        name.removeprefix(_CONTEXT): rows[name].to_numpy() for name in rows.column_names if name.startswith(_CONTEXT)
    }
    return Batch(_read_side(folder / _ENTITY), item, entity_row, item_row, rows["as_of"].to_numpy(), context)


def _write_side(path: Path, side: Side) -> None:
    columns = {"__id": pa.array(side.ids)} | {name: _to_arrow(column) for name, column in side.columns.items()}
    pq.write_table(pa.table(columns), path, compression="zstd")


def _to_arrow(column: Column) -> pa.Array:
    if isinstance(column, Ragged):
        return pa.LargeListArray.from_arrays(pa.array(column.offsets), _to_arrow(column.values))
    if column.dtype == object:
        return pa.array(column, type=pa.string())
    return pa.array(column)  # NaN stays NaN: from_pandas is off


def _read_side(path: Path) -> Side:
    table = pq.ParquetFile(path).read()
    columns = {name: _from_arrow(table[name]) for name in table.column_names if name != "__id"}
    return Side(np.array(table["__id"].to_pylist(), dtype=object), columns)


def _from_arrow(column: pa.ChunkedArray) -> Column:
    array = column.combine_chunks()
    if pa.types.is_large_list(array.type):
        return Ragged(_plain(array.values), array.offsets.to_numpy().astype(np.int64))
    return _plain(array)


def _plain(array: pa.Array) -> Floats | Objects:
    if pa.types.is_string(array.type):
        return np.array(array.to_pylist(), dtype=object)
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
