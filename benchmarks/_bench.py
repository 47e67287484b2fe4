"""What benchmarks share: timing, and one result file with figures, peers, ratios, machine and versions.

Invariant: a ratio is computed from two figures of the same run; results that differ make the benchmark fail.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")
PACKAGES = ("feast", "duckdb", "pyarrow", "pandas", "numpy")


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """A result and the seconds it took."""
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


def quantiles_ms(run: Callable[[], object], calls: int) -> dict[str, float]:
    """p50 and p99 of a call in milliseconds, after a tenth of the calls as warm-up."""
    for _ in range(max(calls // 10, 3)):
        run()
    times = [timed(run)[1] * 1e3 for _ in range(calls)]
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def finish(name: str, rows: list[tuple[str, str, float, float]], notes: dict[str, object]) -> None:
    """Prints (case, what, ours, peer) with ratios and writes `.serinus/bench/<name>.json`."""
    table = Table(title=name, title_justify="left")
    for column in ("case", "figure", "ours", "peer", "peer / ours"):
        table.add_column(column, justify="left" if column in ("case", "figure") else "right")
    for case, what, ours, peer in rows:
        table.add_row(case, what, f"{ours:.3g}", f"{peer:.3g}", f"{peer / ours:.1f} x")
    console = Console(width=110)
    console.print(table)
    for key, value in notes.items():
        console.print(f"{key}: {value}")
    target = Path(os.environ.get("SERINUS_HOME", ".serinus")) / "bench" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "figures": {f"{case}: {what}": ours for case, what, ours, _ in rows},
        "peers": {f"{case}: {what}": peer for case, what, _, peer in rows},
        "ratios": {f"{case}: {what}": peer / ours for case, what, ours, peer in rows},
        "notes": notes,
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }
    target.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    console.print(f"written: {target}")
