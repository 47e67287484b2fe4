"""A predictor with a fault in serving: the correction for sampled negatives is lost, so probabilities are too high.

`lost_correction.py SETTINGS`, as `serinus.wiring.serve` is started. The ranking stays as good as it was. The fault
begins when the file named by FAULT_BEGINS_WITH appears: as after a push of a configuration that is read while serving,
long after every gate and the shadow have passed.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serinus.features.transforms import Matrix
from serinus.serving.stages import Stages
from serinus.wiring.serve import main

# Share of the negatives that training kept (problems/retail/problem.yaml).
KEPT = 0.3


def uncorrected(stages: Stages) -> Stages:
    """Probabilities as if every negative had been kept, once the file is there."""
    begins = Path(os.environ["FAULT_BEGINS_WITH"])

    def score(rows: Matrix) -> NDArray[np.float64]:
        found = stages.score(rows)
        return found / (found + (1 - found) * KEPT) if begins.exists() else found

    return replace(stages, score=score)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], uncorrected))
