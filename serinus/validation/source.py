"""Reads a problem's source table.

Invariant: what cannot be read whole is a `DataError` that names the file and what is wrong with it, never half a table.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from serinus.core.errors import DataError
from serinus.validation.csv_table import read_csv
from serinus.validation.frames import frame_of

_MAGIC = b"PAR1"
_INDEX = re.compile(r"__index_level_\d+__")


def read_table(path: Path, *, name: str) -> pd.DataFrame:
    """The rows of a parquet or CSV file; `name` is what errors call it.

    Parquet carries the kinds of its columns; those of a CSV file are read from all of their cells.
    Raises `DataError` when the file is missing, empty, truncated, of another format, or without rows.
    """
    if not path.is_file():
        raise DataError(f"{name} does not exist", cause=f"no file at {path}", hint="data.source of the card names it")
    if not path.stat().st_size:
        raise DataError(f"{name} is empty (0 bytes)", hint="copy or export the file again")
    readers = {".parquet": _read_parquet, ".csv": read_csv}
    if path.suffix not in readers:
        raise DataError(f"{name} is neither .parquet nor .csv", hint="export the table as parquet, which keeps types")
    table = readers[path.suffix](path, name)
    if not table.num_rows or not table.column_names:
        raise DataError(f"{name} has no rows", cause=f"columns: {', '.join(table.column_names) or 'none'}")
    repeated = sorted({column for column in table.column_names if table.column_names.count(column) > 1})
    if repeated:
        raise DataError(f"{name} has several columns called {', '.join(repeated)}", hint="rename them at the source")
    return frame_of(table, name)


def _read_parquet(path: Path, name: str) -> pa.Table:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(-4, -path.stat().st_size), 2)
        tail = file.read(4)
    if head != _MAGIC:
        raise DataError(f"{name} is not a parquet file", cause=f"it starts with {head!r}, not with {_MAGIC!r}")
    if tail != _MAGIC:
        size = path.stat().st_size
        raise DataError(
            f"{name} is truncated", cause=f"its {size:,} bytes do not end with the footer", hint="copy the file again"
        )
    try:
        table = pa_parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as fault:
        raise DataError(f"{name} is damaged", cause=str(fault), hint="copy or export the file again") from fault
    # What pandas writes of an index without a name is no column of the source.
    return table.select([at for at, column in enumerate(table.column_names) if not _INDEX.fullmatch(column)])
