"""Confidence sequences and e-values of a normal mixture: what one may conclude at any look, and at all together.

`distance` is an estimate less its null value, `variance` that of its error at the look, `tau` the scale of the effects
the mixture is spread over (Robbins 1970; Johari et al. 2015, arXiv:1512.04922; Howard et al. 2021, arXiv:1810.08240;
Waudby-Smith et al. 2024, arXiv:2103.06476). All functions are elementwise on arrays of one shape.

Invariant: an e-value reaches 1 / alpha exactly where the distance reaches the half width. `tau` is fixed before
the first look: with a `tau` chosen afterwards no bound here holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Number = float | Floats


def half_width(variance: Number, tau: Number, alpha: float) -> Floats:
    """Two-sided: the estimate stays within this of the truth at all looks, with probability 1 - alpha."""
    v, t = np.asarray(variance, dtype=np.float64), np.square(tau)
    return np.asarray(np.sqrt(v * (v + t) / t * (2 * np.log(1 / alpha) + np.log1p(t / v))), dtype=np.float64)


def half_width_one_sided(variance: Number, tau: Number, alpha: float) -> Floats:
    """One-sided: the estimate never exceeds the truth by more than this (Waudby-Smith et al. 2024, appendix B)."""
    return np.asarray(np.sqrt(variance) * threshold(variance, tau, alpha), dtype=np.float64)


def threshold(variance: Number, tau: Number, alpha: float) -> Floats:
    """The one-sided half width in standard errors: what a z-value must exceed."""
    v, t = np.asarray(variance, dtype=np.float64), np.square(tau)
    grown = np.sqrt(1 + t / v)
    return np.asarray(np.sqrt(2 * (v + t) / t * np.log1p(grown / (2 * alpha))), dtype=np.float64)


def student(z: Number, freedom: Number) -> Floats:
    """The threshold for an estimate over its *estimated* standard error that is as rare as a known one beyond `z`.

    Wallace's approximation of Student's quantile (1959, Ann. Math. Stat. 30): with 29 degrees of freedom 3.3 becomes
    3.7. Alpha is split over many tests, so thresholds lie where the difference matters.
    """
    w, nu = np.square(z * (8 * np.asarray(freedom) + 3) / (8 * np.asarray(freedom) + 1)), np.asarray(freedom)
    with np.errstate(over="ignore"):  # so few units that nothing is far enough: infinity is right
        return np.asarray(np.sqrt(nu * np.expm1(w / nu)))


def log_e(distance: Number, variance: Number, tau: Number) -> Floats:
    """Two-sided log e-value against a distance of zero: the mixture N(0, tau²) over effects."""
    v, t = np.asarray(variance, dtype=np.float64), np.square(tau)
    return np.asarray(t * np.square(distance) / (2 * v * (v + t)) - np.log1p(t / v) / 2, dtype=np.float64)


def log_e_one_sided(distance: Number, variance: Number, tau: Number) -> Floats:
    """One-sided log e-value against a distance of zero or less; -inf where the distance is not positive.

    A lower bound of the half-normal mixture, made of normal_cdf(x) >= 1 - exp(-x² / 2), which the half width inverts.
    """
    v, t = np.asarray(variance, dtype=np.float64), np.square(tau)
    exponent = t * np.square(np.maximum(distance, 0.0)) / (2 * v * (v + t))
    with np.errstate(divide="ignore"):
        # log(exp(x) - 1), without overflow for large x
        risen = exponent + np.log(-np.expm1(-exponent))
    return np.asarray(np.log(2.0) - np.log1p(t / v) / 2 + risen, dtype=np.float64)


def tuned(variance: float, alpha: float, *, one_sided: bool = True) -> float:
    """The tau for which the bound is about tightest where the variance has come down to `variance`, the planned one.

    At alpha 0.05 two-sided 2.8 standard errors: the least effect that a fixed sample of that size finds in 80 %.
    """
    level = -2 * np.log(2 * alpha if one_sided else alpha)
    return float(np.sqrt(variance * (level + np.log1p(level))))
