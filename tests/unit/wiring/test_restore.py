"""A bundle that is registered again is what it was: what was told of its version is told of the new number, too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from serinus.core.calibration import Calibration
from serinus.core.errors import Conflict, NotFound
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion
from serinus.model.bundle import FeatureSource, Golden, Lineage, Manifest, write_bundle
from serinus.model.scorers import LinearScorer
from serinus.wiring.adapters import bundle_store, deployer
from serinus.wiring.project import open_project
from serinus.wiring.restore import restore
from serinus.wiring.warned import failed_warnings, remember

RENEWAL = ServiceRef("default", "renewal")


def _stored(folder: Path) -> str:
    scorer = LinearScorer(np.zeros(1), np.ones(1), np.ones(1), 0.0)
    manifest = Manifest(
        problem="renewal",
        problem_kind="scoring",
        entity="account",
        item=None,
        candidate="linear",
        scorer=scorer.kind,
        inputs=({"name": "x"},),
        features=FeatureSource(service="renewal_scoring", service_hash="0" * 64, columns=()),
        calibration=Calibration(sampling_rate=1.0),
        profile=(),
        golden=Golden(rows=(), probabilities=()),
        lineage=Lineage(mlflow_run="0" * 32),
    )
    write_bundle(folder, manifest, scorer)
    return bundle_store(open_project()).put("renewal", folder)


def test_failed_warnings_go_with_the_bundle(renewal_project: Path, tmp_path: Path) -> None:
    project, uri = open_project(), _stored(tmp_path / "bundle")
    deployer(project).want(RENEWAL, ModelRef("renewal", 7), uri)
    told = {"serinus.failed_warnings": "calibrated", "serinus.data_warnings": "1"}
    remember(project, ModelVersion("renewal", 7, "run", uri, datetime(2026, 1, 1, tzinfo=UTC), told))
    again = restore(project, "renewal", "7")
    assert again.warnings == failed_warnings(project, "renewal", "7") == "calibrated, 1 of the data contract"
    assert failed_warnings(project, "renewal", str(again.version)) == again.warnings
    with pytest.raises(Conflict, match=f"is registered, as version {again.version}"):
        restore(project, "renewal", "7")
    with pytest.raises(NotFound, match="never had a version 8"):
        restore(project, "renewal", "8")
