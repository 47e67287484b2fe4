"""From sums and cross moments to an effect: step-stratified, clustered by unit, adjusted by a covariate.

Means of the arms are compared within steps and the differences averaged, so neither a drift of the KPI nor a change of
weights can look like an effect. The variance is that of the linearized units' totals (Cochran 1977, §6.3): it covers
units with many requests, units that return in another step, and pairs of answers to one request (shadow) alike.

Invariant: everything is a function of the sums, so any batching of the same evidence gives the same effect; the bound
of a decision lies beyond its null exactly when the decision is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serinus.core.stats.boundary import student, threshold
from serinus.core.stats.moments import BASE, COVARIATE, VALUE, WIDTH, Cell, Moments
from serinus.core.words import Arm

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Below this share of the arms' own variances the variance of a contrast is rounding.
_ROUNDING = 1e-12
# So few units that no estimate is this many standard errors away.
_OUT_OF_REACH = 1e6
# With fewer units on an arm a step has no variance, so it does not count yet.
_FEWEST = 2


@dataclass(frozen=True)
class Effect:
    """The canary's mean over the stable one's, and how far both may be off, all in units of the stable mean.

    `ratio` (1 = equal); `canary`, `stable` and `both` are the two variances and the covariance, `freedom` the degrees
    of freedom of their estimates. All of one shape, that of the data sets measured together; NaN where nothing can be
    said.
    """

    ratio: Floats
    canary: Floats
    stable: Floats
    both: Floats
    freedom: Floats

    def variance(self, share: float) -> Floats:
        """Of the contrast `ratio - share`, with the stable arm's own error."""
        own = self.canary + share**2 * self.stable
        return np.asarray(np.maximum(own - 2 * share * self.both, _ROUNDING * own))

    def bound(self, rule: Rule) -> tuple[Floats, Bools]:
        """The one-sided bound of the ratio and whether it lies beyond the rule's null; NaN where there is none.

        The z-value that the rule's own contrast must exceed is inverted for all ratios (Fieller 1954): a quadratic.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self.variance(rule.null)
            z = student(threshold(np.where(variance > 0, variance, np.nan), rule.tau, rule.alpha), self.freedom)
            z = np.where(z < _OUT_OF_REACH, z, np.nan)
            crossed = rule.side * (self.ratio - rule.null) > z * np.sqrt(variance)
            bound = self._root(np.square(z), rule.side)
            agrees = (rule.side * (bound - rule.null) > 0) == crossed
        return np.where(agrees, bound, np.nan), np.asarray(crossed & agrees)

    def _root(self, square: Floats, side: int) -> Floats:
        """The ratio r nearest to the estimate below (side 1) or above (-1) with (ratio - r)² = square · variance(r)."""
        a = 1 - square * self.stable
        b = self.ratio - square * self.both
        c = np.square(self.ratio) - square * self.canary
        inside = np.square(b) - a * c
        root = (b - side * np.sqrt(np.maximum(inside, 0.0))) / a
        # a <= 0: the stable mean itself is not known to differ from zero, and one side or both have no end.
        ends = (a > 0) | ((inside > 0) & (side * (self.ratio - root) >= 0))
        return np.where(ends, root, np.nan)


@dataclass(frozen=True)
class Rule:
    """A one-sided decision: that the ratio lies above `null` (side 1), or below it (side -1).

    Never wrong at any look with probability 1 - alpha; `tau` is relative to the stable mean.
    """

    null: float
    side: int
    alpha: float
    tau: float


def effect_of(moments: Moments, *, adjust: bool = False) -> Effect:
    """The effect in one set of moments, as arrays without axes."""
    return measure(moments.cells, moments.units, moments.sums, moments.cross, adjust=adjust)


def measure(
    cells: Sequence[Cell], units: NDArray[np.int64], sums: Floats, cross: Floats, *, adjust: bool = False
) -> Effect:
    """The effects in many sets of moments: `units` (..., cells), `sums` (..., cells, 3), `cross` (..., 3c, 3c).

    `adjust`: by the covariate (CUPED, Deng et al. 2013), with one slope for all arms and steps and the covariate's mean
    pooled over the arms of a step.
    """
    pairs = _pairs(cells)
    means = _Means.of(units, sums, pairs)
    slope = means.slope(cross) if adjust else np.zeros(sums.shape[:-2])
    canary, up = means.arm(0, slope)
    stable, down = means.arm(1, slope)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(stable > 0, stable, np.nan)
        up, down = up / scale[..., None], down / scale[..., None]
        ours, theirs = _form(up, cross, up), _form(down, cross, down)
        return Effect(canary / scale, ours, theirs, _form(up, cross, down), means.freedom(ours, theirs, cross))


def predicted_over_observed(moments: Moments) -> Effect:
    """A calibration, of the canary alone: predictions (value) over what was observed (base), against one.

    In units of what was observed; the stable arm of other effects is here the canary's own observations.
    """
    mine = [cell for cell in moments.cells if cell.arm is Arm.CANARY]
    places = [moments.cells.index(cell) for cell in mine]
    units = float(moments.units[places].sum())
    total = moments.sums[places].sum(axis=0)
    if units < _FEWEST or total[BASE] <= 0:
        nothing = np.asarray(np.nan)
        return Effect(nothing, nothing, nothing, nothing, nothing)
    summed = np.zeros((WIDTH, len(moments.cells) * WIDTH))
    for place in places:
        summed[:, place * WIDTH : (place + 1) * WIDTH] = np.eye(WIDTH)
    spread = summed @ moments.cross @ summed.T - np.outer(total, total) / units
    spread *= units / (units - 1) / total[BASE] ** 2
    return Effect(
        np.asarray(total[VALUE] / total[BASE]),
        np.asarray(spread[VALUE, VALUE]),
        np.asarray(spread[BASE, BASE]),
        np.asarray(spread[VALUE, BASE]),
        np.asarray(units - 1),
    )


def _pairs(cells: Sequence[Cell]) -> NDArray[np.int64]:
    """(steps, 2): where the canary's and the stable cell of each step stand; steps with one arm are left out."""
    place = {cell: at for at, cell in enumerate(cells)}
    steps = sorted({cell.step for cell in cells})
    found = [
        (place[Cell(step, Arm.CANARY)], place[Cell(step, Arm.STABLE)])
        for step in steps
        if Cell(step, Arm.CANARY) in place and Cell(step, Arm.STABLE) in place
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class _Means:
    """Per step and arm (last two axes; canary first): units, sums, and the share of the step in the average."""

    pairs: NDArray[np.int64]
    width: int
    units: Floats
    sums: Floats
    weight: Floats
    correction: Floats

    @classmethod
    def of(cls, units: NDArray[np.int64], sums: Floats, pairs: NDArray[np.int64]) -> _Means:
        seen, mine = units[..., pairs].astype(np.float64), sums[..., pairs, :]
        base = mine[..., BASE]
        counts = (seen >= _FEWEST).all(axis=-1) & (base > 0).all(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            harmonic = np.where(counts, base.prod(axis=-1) / base.sum(axis=-1), 0.0)
            weight = harmonic / harmonic.sum(axis=-1, keepdims=True)
        # A cell's variance loses one degree of freedom of its own: with few units on the canary that is what matters.
        correction = np.sqrt(seen / np.maximum(seen - 1, 1))
        return cls(pairs, sums.shape[-2], seen, mine, weight, correction)

    def freedom(self, canary: Floats, stable: Floats, cross: Floats) -> Floats:
        """Of the variance of a contrast: Satterthwaite's (1946), or units less one where units are on both arms."""
        units = np.where(self.weight[..., None] > 0, self.units, 0.0).sum(axis=-2)
        left = np.maximum(units - 1, 1.0)
        bases = self.pairs * WIDTH + BASE
        paired = (cross[..., bases[:, 0], bases[:, 1]] > 0).any(axis=-1)
        apart = (canary + stable) ** 2 / (canary**2 / left[..., 0] + stable**2 / left[..., 1])
        return np.asarray(np.where(paired, left.min(axis=-1), apart))

    def slope(self, cross: Floats) -> Floats:
        """Least squares of the value on the covariate, over units' deviations from their cell's mean."""
        mean, covariate = self._ratio(VALUE), self._ratio(COVARIATE)
        at = self.pairs * WIDTH
        base = cross[..., at + BASE, at + BASE]
        both = (
            cross[..., at + VALUE, at + COVARIATE]
            - mean * cross[..., at + BASE, at + COVARIATE]
            - covariate * cross[..., at + VALUE, at + BASE]
            + mean * covariate * base
        )
        own = cross[..., at + COVARIATE, at + COVARIATE]
        spread = own - 2 * covariate * cross[..., at + BASE, at + COVARIATE] + covariate**2 * base
        top, bottom = both.sum(axis=(-2, -1)), spread.sum(axis=(-2, -1))
        known = bottom > _ROUNDING * own.sum(axis=(-2, -1))
        return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=known))

    def arm(self, which: int, slope: Floats) -> tuple[Floats, Floats]:
        """The arm's average mean (...), and its gradient by all cells' sums (..., 3c)."""
        mean, covariate = self._ratio(VALUE)[..., which], self._ratio(COVARIATE)[..., which]
        base = self.sums[..., BASE]
        total = base.sum(axis=-1)
        pooled = _over(self.sums[..., COVARIATE].sum(axis=-1), total)
        slope = slope[..., None]
        gradient = np.zeros((*self.sums.shape[:-2], 2, WIDTH))
        own = _over(np.ones_like(total), base[..., which])
        gradient[..., which, VALUE] = own
        gradient[..., which, BASE] = own * (slope * covariate - mean)
        gradient[..., which, COVARIATE] = -slope * own
        gradient[..., BASE] -= (slope * _over(pooled, total))[..., None]
        gradient[..., COVARIATE] += (slope * _over(np.ones_like(total), total))[..., None]
        gradient *= (self.weight[..., None] * self.correction)[..., None]
        adjusted = (self.weight * (mean - slope * (covariate - pooled))).sum(axis=-1)
        return adjusted, self._flat(gradient)

    def _ratio(self, column: int) -> Floats:
        return _over(self.sums[..., column], self.sums[..., BASE])

    def _flat(self, gradient: Floats) -> Floats:
        flat = np.zeros((*gradient.shape[:-3], self.width, WIDTH))
        flat[..., self.pairs, :] = gradient
        return flat.reshape(*gradient.shape[:-3], -1)


def _over(top: Floats, bottom: Floats) -> Floats:
    """A ratio, 0 where there is nothing to divide by (such cells have no weight)."""
    return np.asarray(np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom > 0))


def _form(left: Floats, cross: Floats, right: Floats) -> Floats:
    return np.asarray((left[..., None, :] @ cross @ right[..., :, None])[..., 0, 0])
