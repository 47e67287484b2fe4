"""How many processes abort when they read a parquet file last and then end: `python benchmarks/parquet_exit.py [RUNS]`.

Three ways to read, each in RUNS forked processes, six at a time so that threads are late.
docs/decisions/dependencies.md tells why one of them aborts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.dataset  # noqa: F401 - loaded before the fork, like the rest
import pyarrow.parquet as pq

WIDTH = 6
WAYS: dict[str, Callable[[Path], object]] = {
    "pandas.read_parquet": lambda path: pd.read_parquet(path),  # noqa: TID251 - it is what is measured
    "read_table": lambda path: pq.read_table(path).to_pandas(),
    "ParquetFile": lambda path: pq.ParquetFile(path).read().to_pandas(),
}


def aborted(read: Callable[[Path], object], path: Path, runs: int) -> int:
    """How many of `runs` processes did not end with 0."""
    bad = running = 0
    for started in range(runs + WIDTH):
        if started < runs:
            if os.fork() == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                read(path)
                sys.exit(0)
            running += 1
        if running and (running == WIDTH or started >= runs):
            bad += os.wait()[1] != 0
            running -= 1
    return bad


def main(arguments: list[str]) -> None:
    """Prints one line a way."""
    runs = int(arguments[0]) if arguments else 900
    folder = Path(tempfile.mkdtemp())
    path = folder / "rows.parquet"
    pd.DataFrame({f"c{i}": range(400) for i in range(12)}).assign(name="x").to_parquet(path, index=False)
    for name, read in WAYS.items():
        print(f"{name:<20} {aborted(read, path, runs)} of {runs} aborted", flush=True)
    shutil.rmtree(folder)  # not in a `with`: the forked processes leave by an exception


if __name__ == "__main__":
    main(sys.argv[1:])
