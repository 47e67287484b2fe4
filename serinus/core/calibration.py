"""Turns the score of a model trained on a sample of the negatives into an honest probability.

Invariant: every map here rises strictly, so calibration never changes a ranking. Formulas work on log-odds, where the
sampling correction is one addition: with a share w of negatives kept, q = p / (p + (1 - p) / w) (He et al. 2014, ADKDD,
§6.3) means logit(q) = logit(p) + ln(w).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from serinus.core.errors import DataError

Floats = NDArray[np.float64]
_NEWTON_STEPS = 100
_TOLERANCE, _FLAT, _RIDGE = 1e-12, 1e-8, 1e-12
_LEAST_SPREAD = 1e-12


class Calibration(BaseModel):
    """probability = expit(slope · (log-odds + ln(sampling_rate)) + intercept); slope and intercept are Platt's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampling_rate: float = Field(default=1.0, gt=0, le=1)
    slope: float = Field(default=1.0, gt=0)
    intercept: float = 0.0

    def corrected(self, log_odds: Floats) -> Floats:
        """Log-odds after the sampling correction, before Platt's map."""
        return np.asarray(log_odds + np.log(self.sampling_rate), dtype=np.float64)

    def probability(self, log_odds: Floats) -> Floats:
        """Calibrated probabilities, same shape as `log_odds`."""
        return np.asarray(expit(self.slope * self.corrected(log_odds) + self.intercept), dtype=np.float64)


def fit_platt(log_odds: Floats, labels: Floats, *, sampling_rate: float) -> Calibration:
    """Platt's map (1999) on rows that were not used for training: the maximum of the likelihood of his targets.

    `labels` are 0 or 1. His targets, (N+ + 1)/(N+ + 2) and 1/(N- + 2), keep the slope finite where scores separate the
    classes. Newton's method with the line search of Lin, Lin and Weng (2007), on standardized scores: their scale and
    shift do not matter. Nothing can be learned from one class, from equal scores, or from scores that rank the wrong
    way round (a map that must rise could only flatten them): then the plain sampling correction is returned.
    Raises `DataError` for scores that are not finite, and when the search does not converge.
    """
    start = Calibration(sampling_rate=sampling_rate)
    if not np.isfinite(log_odds).all():
        raise DataError("Platt's map cannot be fitted", cause="some scores of the validation window are not finite")
    if labels.min() == labels.max():
        return start
    x = start.corrected(log_odds)
    centre, spread = float(x.mean()), float(x.std())
    if spread <= _LEAST_SPREAD * max(1.0, abs(centre)):
        return start
    slope, intercept = _maximum((x - centre) / spread, _targets(labels))
    if slope <= 0:
        return start
    return Calibration(
        sampling_rate=sampling_rate, slope=slope / spread, intercept=intercept - slope * (centre / spread)
    )


def _targets(labels: Floats) -> Floats:
    positives = float(labels.sum())
    negatives = len(labels) - positives
    return np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _loss(theta: Floats, design: Floats, targets: Floats) -> float:
    """Binary cross-entropy in nats a row, without overflow however large the log-odds are."""
    z = design @ theta
    return float((np.logaddexp(0.0, z) - targets * z).mean())


def _maximum(x: Floats, targets: Floats) -> tuple[float, float]:
    """Slope and intercept of the largest likelihood, on standardized scores."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    share = targets.mean()
    theta = np.array([0.0, np.log(share / (1 - share))])
    loss = _loss(theta, design, targets)
    for _ in range(_NEWTON_STEPS):
        p = expit(design @ theta)
        gradient = design.T @ (p - targets) / len(x)
        if np.abs(gradient).max() < _TOLERANCE:
            return float(theta[0]), float(theta[1])
        curvature = (design * (p * (1 - p))[:, None]).T @ design / len(x) + _RIDGE * np.eye(2)
        move = np.linalg.solve(curvature, gradient)
        theta, fallen = _damped(theta, move, design, targets)
        if loss - fallen <= _TOLERANCE * loss and np.abs(gradient).max() < _FLAT:
            return float(theta[0]), float(theta[1])
        loss = fallen
    raise DataError(
        "Platt's map did not converge",
        cause=f"largest gradient {np.abs(gradient).max():.2g} after {_NEWTON_STEPS} steps",
        hint="look at the scores of the validation window; `calibration: sampling_correction` needs no fit",
    )


def _damped(theta: Floats, move: Floats, design: Floats, targets: Floats) -> tuple[Floats, float]:
    """The longest of the steps 1, 1/2, 1/4, … along the move that does not raise the loss; the step and its loss."""
    before, share = _loss(theta, design, targets), 1.0
    while share > _TOLERANCE:
        after = theta - share * move
        loss = _loss(after, design, targets)
        if loss <= before:
            return after, loss
        share /= 2
    return theta, before
