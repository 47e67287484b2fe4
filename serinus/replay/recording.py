"""Recorded requests on disk: who asked when, the candidates with their labels, and what happened afterwards.

Invariant: written as a whole by the pipeline, from the very rows of the test window that models were judged on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serinus.core.errors import NotFound
from serinus.files import DISK

BASELINE = "baseline:"
CONTEXT = "context:"
_FILES = ("requests", "rows", "outcomes")


@dataclass(frozen=True)
class Recording:
    """`requests`: request_id, entity, unit, as_of, `context:…`, in order of event time.

    `rows`: request (position in requests), item, label, value, `baseline:…` (scores), sorted by request.
    `outcomes`: request_id, unit, name, item, value, at, in order of time.
    """

    requests: pd.DataFrame
    rows: pd.DataFrame
    outcomes: pd.DataFrame

    def first(self, count: int) -> Recording:
        """The first requests in event time, with their rows; outcomes stay whole, for they go on after the last one."""
        kept = self.requests.iloc[:count]
        return Recording(kept, self.rows[self.rows["request"] < len(kept)], self.outcomes)


def record(
    requests: pd.DataFrame, rows: pd.DataFrame, outcomes: pd.DataFrame, baselines: Mapping[str, NDArray[np.float64]]
) -> Recording:
    """A recording from requests and rows in any order; `rows.request` are positions in `requests`."""
    order = np.lexsort([requests["request_id"].to_numpy(dtype=str), requests["as_of"].to_numpy()])
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    named = rows[["item", "label", "value"]].assign(request=position[rows["request"].to_numpy()])
    for name, scores in baselines.items():
        named[BASELINE + name] = scores
    asked = requests.iloc[order].reset_index(drop=True)
    asked = asked.assign(entity=asked["entity"].astype(str), unit=asked["unit"].astype(str))
    return Recording(
        asked,
        named.sort_values(["request", "item"], kind="stable", ignore_index=True),
        outcomes.sort_values(["at", "unit", "name", "item"], kind="stable", ignore_index=True),
    )


def write_recording(folder: Path, recording: Recording) -> None:
    """Replaces the folder."""
    with DISK.new_folder(folder) as fresh:
        for name in _FILES:
            getattr(recording, name).to_parquet(fresh / f"{name}.parquet", index=False)
        DISK.remove(folder)


def read_recording(folder: Path, problem: str) -> Recording:
    """Raises `NotFound` when the pipeline has not run yet."""
    if not (folder / f"{_FILES[0]}.parquet").is_file():
        raise NotFound(
            f"no recorded requests of {problem}", hint=f"`serinus pipeline run {problem}` records its test window"
        )
    return Recording(*(pq.ParquetFile(folder / f"{name}.parquet").read().to_pandas() for name in _FILES))
