"""Trains one candidate: fit on the sampled rows, calibrate on the validation window, pack as a bundle.

Invariant: the bundle reproduces its own golden rows before anyone else sees it; the test window is never read here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serinus.core.calibration import Calibration, fit_platt
from serinus.core.card import Candidate, Problem
from serinus.features.inputs import Inputs
from serinus.features.transforms import Matrix
from serinus.model.bundle import (
    Bundle,
    FeatureSource,
    Golden,
    Lineage,
    Manifest,
    RequestShape,
    read_bundle,
    write_bundle,
)
from serinus.model.scorers import Scorer
from serinus.training.dataset import Split, TrainingSet
from serinus.training.fit import Sample, fit
from serinus.training.profile import profiles

GOLDEN_ROWS = 32


@dataclass(frozen=True)
class TrainingJob:
    """What one candidate is trained from; `source` and `lineage` go into its bundle as they are."""

    card: Problem
    candidate: Candidate
    data: TrainingSet
    source: FeatureSource
    lineage: Lineage


@dataclass(frozen=True)
class Trained:
    """A written bundle; `fit_seconds` is wall time of the fit alone."""

    bundle_hash: str
    fit_seconds: float
    size_bytes: int
    kind: str


def train(job: TrainingJob, folder: Path, *, clock: Callable[[], float] = time.perf_counter) -> Trained:
    """Writes the candidate's bundle into `folder`."""
    inputs, split = job.data.inputs(), job.data.split("train")
    started = clock()
    scorer = fit(job.candidate, Sample(split.matrix, split.labels, job.card.data.seed))
    seconds = clock() - started
    calibration = _calibrate(job, scorer, job.data.split("validate"))
    manifest = _manifest(job, inputs, split.matrix, calibration, scorer)
    digest = write_bundle(folder, manifest, scorer)
    read_bundle(folder).require_parity()
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Trained(digest, seconds, size, job.candidate.kind)


def _calibrate(job: TrainingJob, scorer: Scorer, held_out: Split) -> Calibration:
    rate = job.card.data.negative_sampling_rate
    if job.card.data.calibration == "sampling_correction":
        return Calibration(sampling_rate=rate)
    recent = _recent(held_out, job.card)
    return fit_platt(scorer.log_odds(recent.matrix), recent.labels, sampling_rate=rate)


def _recent(held_out: Split, card: Problem) -> Split:
    """The last `calibration_window` of the validation window; all of it when the card names none."""
    window = card.data.calibration_window
    if window is None:
        return held_out
    as_of = held_out.rows["as_of"]
    keep = (as_of > as_of.max() - window).to_numpy()
    return Split(held_out.matrix[keep], held_out.rows[keep])


def _manifest(job: TrainingJob, inputs: Inputs, rows: Matrix, calibration: Calibration, scorer: Scorer) -> Manifest:
    asked = job.card.framing.request
    golden = rows[np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS, len(rows))).astype(int)]
    draft = Manifest(
        problem=job.card.name,
        problem_kind=job.card.framing.kind.value,
        entity=job.card.framing.entity,
        item=job.card.framing.item,
        candidate=job.candidate.name,
        scorer=scorer.kind,
        inputs=tuple(one.model_dump() for one in inputs),
        features=job.source,
        request=RequestShape(max_items=asked.max_items, context=asked.context),
        calibration=calibration,
        profile=profiles(inputs, rows),
        golden=Golden(rows=(), probabilities=()),
        lineage=job.lineage,
    )
    expected = Bundle(draft, scorer).probabilities(golden)
    packed = Golden(
        rows=tuple(tuple(float(v) for v in row) for row in golden), probabilities=tuple(float(p) for p in expected)
    )
    return draft.model_copy(update={"golden": packed})
