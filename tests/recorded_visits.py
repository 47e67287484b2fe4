"""Visits of the test window as one version ranked them, for `make verify-stats VISITS=file.parquet`.

`recorded_visits.py RUN_FOLDER OUT.parquet`: reads the training set and the LightGBM bundle that a run of problem retail
left in `.serinus/runs/<run>`, and writes unit, value (hits among 10), base (1) and covariate (past visits, log).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serinus.core.kpi.ranked import RankedRows, hits_at, log_loss, mean_by_request
from serinus.model.bundle import read_bundle
from serinus.training.dataset import TrainingSet

COVARIATE = "c_visits"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RecordedVisits:
    """One row a visit, in order of time."""

    unit: NDArray[np.str_]
    hits: Floats
    log_loss: Floats
    covariate: Floats

    @classmethod
    def of_run(cls, run: Path) -> RecordedVisits:
        """As the run's LightGBM model ranks them."""
        data = TrainingSet(next(path for path in sorted(run.rglob("training_set")) if path.is_dir()))
        manifests = sorted(run.rglob("bundle.json"))
        chosen = next(path.parent for path in manifests if json.loads(path.read_text())["scorer"] == "gbdt")
        split = data.split("test")
        request = split.rows["request"].to_numpy(dtype=np.int64)
        scores = read_bundle(chosen).probabilities(split.matrix)
        rows = RankedRows.of(request, scores, split.labels, np.zeros(len(scores)))
        first = np.unique(request, return_index=True)[1]
        order = np.argsort(split.rows["as_of"].to_numpy()[first], kind="stable")
        position = [one.name for one in data.inputs()].index(COVARIATE)
        return cls(
            split.rows["entity"].astype(str).to_numpy(dtype=str)[first][order],
            hits_at(rows, 10)[order],
            mean_by_request(rows, log_loss(scores, split.labels))[order],
            split.matrix[first, position].astype(np.float64)[order],
        )


def main(arguments: list[str]) -> int:
    """Writes the file."""
    visits, target = RecordedVisits.of_run(Path(arguments[0])), Path(arguments[1])
    columns = {
        "unit": visits.unit,
        "value": visits.hits,
        "base": np.ones(len(visits.hits)),
        "covariate": visits.covariate,
    }
    pq.write_table(pa.table(columns), target)
    sys.stdout.write(f"{len(visits.hits)} visits, {visits.hits.mean():.4f} hits each: {target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
