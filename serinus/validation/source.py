"""Reads a problem's source table.

Invariant: what cannot be read whole is a `DataError` that names the file and what is wrong with it, never half a table.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from serinus.core.errors import DataError

_MAGIC = b"PAR1"


def read_table(path: Path, *, name: str) -> pd.DataFrame:
    """The rows of a parquet or CSV file; `name` is what errors call it.

    CSV kinds are guessed from the values (ISO times become times, `00123` becomes 123), parquet carries its own.
    Raises `DataError` when the file is missing, empty, truncated, of another format, or without rows.
    """
    if not path.is_file():
        raise DataError(f"{name} does not exist", cause=f"no file at {path}", hint="data.source of the card names it")
    if not path.stat().st_size:
        raise DataError(f"{name} is empty (0 bytes)", hint="copy or export the file again")
    readers = {".parquet": _read_parquet, ".csv": _read_csv}
    if path.suffix not in readers:
        raise DataError(f"{name} is neither .parquet nor .csv", hint="export the table as parquet, which keeps types")
    table = readers[path.suffix](path, name)
    if not table.num_rows:
        raise DataError(f"{name} has no rows", cause=f"columns: {', '.join(table.column_names) or 'none'}")
    repeated = sorted({column for column in table.column_names if table.column_names.count(column) > 1})
    if repeated:
        raise DataError(f"{name} has several columns called {', '.join(repeated)}", hint="rename them at the source")
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame


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
        return pa_parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as fault:
        raise DataError(f"{name} is damaged", cause=str(fault), hint="copy or export the file again") from fault


def _read_csv(path: Path, name: str) -> pa.Table:
    try:
        return pa_csv.read_csv(path)
    except pa.ArrowException as fault:
        raise DataError(f"{name} is not a whole CSV table", cause=str(fault), hint="export the file again") from fault
