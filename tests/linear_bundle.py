"""The smallest bundle that there can be, for tests of what is done with bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serinus.core.calibration import Calibration
from serinus.model.bundle import FeatureSource, Golden, Lineage, Manifest, write_bundle
from serinus.model.scorers import LinearScorer


def linear_bundle(folder: Path, problem: str, inputs: Sequence[str] = ("x",)) -> Path:
    """Written into `folder`; of the same inputs it has the same content."""
    scorer = LinearScorer(np.zeros(len(inputs)), np.ones(len(inputs)), np.ones(len(inputs)), 0.0)
    manifest = Manifest(
        problem=problem,
        problem_kind="scoring",
        entity="account",
        item=None,
        candidate="linear",
        scorer=scorer.kind,
        inputs=tuple({"name": one} for one in inputs),
        features=FeatureSource(service=problem, service_hash="0" * 64, columns=()),
        calibration=Calibration(sampling_rate=1.0),
        profile=(),
        golden=Golden(rows=(), probabilities=()),
        lineage=Lineage(mlflow_run="0" * 32),
    )
    write_bundle(folder, manifest, scorer)
    return folder
