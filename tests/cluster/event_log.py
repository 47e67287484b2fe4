"""The event log on the collector's claim, read by a process in its pod.

Invariant: only what is in files there is seen: what waits in Redis or in a predictor is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from serinus.evidence.state import Written
from tests.cluster.kube import Kube
from tests.cluster.manifests import COLLECTOR, EVENT_LOG

_COLUMNS = ["request_id", "revision", "bucket_check", "defaulted", "writer", "sequence"]
_SCRIPT = f"""
import json, sys
from pathlib import Path
from serinus.core.events import Stream
from serinus.evidence.parquet_log import ParquetEventLog
log = ParquetEventLog(Path({EVENT_LOG!r}))
rows = [row for one in log.segments(Stream.EXPOSURES) for row in log.read(one, {_COLUMNS!r}).to_pylist()]
json.dump(rows, sys.stdout)
"""


@dataclass(frozen=True)
class Row:
    """One exposure."""

    request_id: str
    revision: str
    bucket_check: str
    defaulted: int
    writer: str
    sequence: int


def exposures(kube: Kube) -> list[Row]:
    """All that are on disk; some may be there twice."""
    text = kube.execute(COLLECTOR, "python", "-c", _SCRIPT)
    return [Row(**row) for row in json.loads(text)]


def lost(rows: Iterable[Row]) -> int:
    """As the log itself counts: numbers that writers have given out and that never came."""
    by_writer: dict[str, list[int]] = {}
    for row in rows:
        by_writer.setdefault(row.writer, []).append(row.sequence)
    return sum(Written().with_rows(np.asarray(numbers, dtype=np.int64)).lost for numbers in by_writer.values())
