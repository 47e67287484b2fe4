"""Visits of the test window as one version ranked them, for `make verify-stats VISITS=file.parquet`.

`recorded_visits.py RUN_FOLDER OUT.parquet`: reads the training set and the LightGBM bundle that a run of problem retail
left in `.serinus/runs/<run>`, and writes unit, value (hits among 10), base (1) and covariate (past visits, log).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serinus.core.kpi import RankedRows, hits_at
from serinus.model.bundle import read_bundle
from serinus.training.dataset import TrainingSet

COVARIATE = "c_visits"


def main(arguments: list[str]) -> int:
    """Writes the file."""
    run, target = Path(arguments[0]), Path(arguments[1])
    data = TrainingSet(next(path for path in sorted(run.rglob("training_set")) if path.is_dir()))
    manifests = sorted(run.rglob("bundle.json"))
    chosen = next(path.parent for path in manifests if json.loads(path.read_text())["scorer"] == "gbdt")
    split = data.split("test")
    request = split.rows["request"].to_numpy(dtype=np.int64)
    scores = read_bundle(chosen).probabilities(split.matrix)
    hits = hits_at(RankedRows.of(request, scores, split.labels, np.zeros(len(scores))), 10)
    first = np.unique(request, return_index=True)[1]
    order = np.argsort(split.rows["as_of"].to_numpy()[first], kind="stable")
    covariate = split.matrix[first, [one.name for one in data.inputs()].index(COVARIATE)].astype(np.float64)
    columns = {
        "unit": split.rows["entity"].astype(str).to_numpy()[first][order],
        "value": hits[order],
        "base": np.ones(len(first)),
        "covariate": covariate[order],
    }
    pq.write_table(pa.table(columns), target)
    sys.stdout.write(f"{len(first)} visits, {hits.mean():.4f} hits each: {target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
