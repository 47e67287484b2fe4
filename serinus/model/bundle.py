"""The bundle: a folder with one model file and `bundle.json`, complete enough to score a request and to prove it.

Invariant: `content_hash` covers everything that changes an answer and nothing else (no ids, times or latencies), so the
same inputs give the same hash on one machine; whoever loads a bundle can check it against its golden rows (D14).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serinus.core.calibration import Calibration
from serinus.core.errors import BundleError
from serinus.model.scorers import Scorer, load_scorer

MANIFEST = "bundle.json"
FORMAT: Literal["serinus.bundle/2"] = "serinus.bundle/2"
PARITY_TOLERANCE = 1e-9


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureSource(_Part):
    """Where the inputs are looked up: the feature service, its definitions with their hash, and the columns needed.

    `definitions` is a serialized `ServiceInfo` of serinus.features: a predictor needs no feature registry.
    """

    service: str
    service_hash: str
    columns: tuple[str, ...]
    definitions: dict[str, Any] = Field(default_factory=dict)


class RequestShape(_Part):
    """What a request may hold: how many items, and which values of its own."""

    max_items: int = 1
    context: tuple[str, ...] = ()


class InputProfile(_Part):
    """How one input was distributed in training: the base of later drift checks. Zero has a bin of its own."""

    name: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    zero_share: float
    default_share: float
    mean: float


class Golden(_Part):
    """Rows of the model matrix with the calibrated probability each must give again, wherever the bundle is loaded."""

    rows: tuple[tuple[float, ...], ...]
    probabilities: tuple[float, ...]


class Lineage(_Part):
    """Where the bundle comes from: names and hashes only. Left out of the content hash."""

    pipeline_run: str = ""
    mlflow_run: str = ""
    snapshot_hash: str = ""
    training_set_hash: str = ""
    created_at: str = ""
    measured: dict[str, float] = Field(default_factory=dict)


class Manifest(_Part):
    """`bundle.json`. `inputs` are the serialized inputs of serinus.features, in the order of the matrix columns."""

    format: Literal["serinus.bundle/2"] = FORMAT
    problem: str
    problem_kind: Literal["ranking", "scoring"]
    entity: str
    item: str | None
    candidate: str
    scorer: str
    inputs: tuple[dict[str, Any], ...]
    features: FeatureSource
    request: RequestShape = RequestShape()
    calibration: Calibration
    profile: tuple[InputProfile, ...]
    golden: Golden
    lineage: Lineage


class Bundle:
    """A loaded model: matrix in, calibrated probabilities out."""

    def __init__(self, manifest: Manifest, scorer: Scorer) -> None:
        self.manifest, self.scorer = manifest, scorer

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities of a matrix (rows, inputs). Raises `BundleError` on a wrong shape or a NaN."""
        wanted = len(self.manifest.inputs)
        if rows.ndim != 2 or rows.shape[1] != wanted:
            raise BundleError(f"the model takes {wanted} inputs a row, not a matrix of shape {rows.shape}")
        if not np.isfinite(rows).all():
            # LightGBM would read a NaN it never saw in training as 0 and answer anyway.
            raise BundleError("the model matrix holds NaN or infinity", hint="defaults are applied by the inputs")
        return self.manifest.calibration.probability(self.scorer.log_odds(rows))

    def parity(self) -> float:
        """Largest difference between the golden probabilities and what this process computes now."""
        golden = self.manifest.golden
        again = self.probabilities(np.asarray(golden.rows, dtype=np.float32))
        return float(np.abs(again - np.asarray(golden.probabilities)).max(initial=0.0))

    def require_parity(self) -> None:
        """Raises `BundleError` unless the golden rows are reproduced to 1e-9."""
        worst = self.parity()
        if not worst <= PARITY_TOLERANCE:
            raise BundleError(
                f"bundle {self.manifest.problem}/{self.manifest.candidate} does not reproduce its golden rows",
                cause=f"largest difference {worst:.3g}, allowed {PARITY_TOLERANCE:g}",
                hint="the model file or the numeric libraries differ from those that wrote the bundle",
            )


def write_bundle(folder: Path, manifest: Manifest, scorer: Scorer) -> str:
    """Writes the bundle into `folder` (made if missing) and returns its content hash."""
    folder.mkdir(parents=True, exist_ok=True)
    scorer.save(folder)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return content_hash(folder)


def read_manifest(folder: Path) -> Manifest:
    """`bundle.json` of a folder. Raises `BundleError` when it is missing or not of this format."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as fault:
        raise BundleError(f"{folder} is not a bundle", cause=str(fault)) from fault
    except ValidationError as fault:
        raise BundleError(f"{folder / MANIFEST} is not a bundle of format {FORMAT}", cause=str(fault)) from fault


def read_bundle(folder: Path) -> Bundle:
    """Manifest and scorer of a folder, not yet checked for parity."""
    manifest = read_manifest(folder)
    return Bundle(manifest, load_scorer(manifest.scorer, folder))


def content_hash(folder: Path) -> str:
    """SHA-256 (hex) over the manifest without its lineage, and over the bytes of the model files."""
    manifest = read_manifest(folder).model_dump(mode="json", exclude={"lineage"})
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
