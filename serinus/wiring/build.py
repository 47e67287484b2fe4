"""`serinus features build`: the steps up to the feature sources, outside a pipeline run.

Invariant: the same functions as the pipeline's steps, with a folder of their own in between.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from serinus.wiring.journal import Journal
from serinus.wiring.project import Project
from serinus.wiring.shared import turn
from serinus.wiring.steps.data import build_features, check_raw, read_raw

RUN = "features-build"


def build_features_only(project: Project, problem: str) -> dict[str, Any]:
    """Facts of the features step. Raises what the steps raise."""
    run = f"{problem}-{RUN}"
    with turn(project.home, problem, run), tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        read_raw(problem, run, work / "raw")
        check_raw(problem, run, work / "raw", work / "accepted", work / "verdict")
        build_features(problem, run, work / "accepted", work / "tables")
    return Journal(project.home, problem, run).read().facts("features")
