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

Floats = NDArray[np.float64]
_NEWTON_STEPS = 50
_TOLERANCE = 1e-12


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
    """Platt's map (1999) by Newton's method on the binary cross-entropy, on rows that were not used for training.

    `labels` are 0 or 1; both must occur, else the plain sampling correction is returned, for nothing can be learned.
    """
    start = Calibration(sampling_rate=sampling_rate)
    if labels.min() == labels.max():
        return start
    x = start.corrected(log_odds)
    design = np.stack([x, np.ones_like(x)], axis=1)
    theta = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        p = expit(design @ theta)
        gradient = design.T @ (p - labels)
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        move = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        theta = theta - move
        if np.abs(move).max() < _TOLERANCE:
            break
    if theta[0] <= 0 or not np.isfinite(theta).all():
        return start
    return Calibration(sampling_rate=sampling_rate, slope=float(theta[0]), intercept=float(theta[1]))
