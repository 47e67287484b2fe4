"""Intervals of a share and of a rate over requests that go together, right where few events or nearly all were seen.

Invariant: the requests of one cluster (a customer) may be as alike as they like; a share stays within 0 and 1 and a
rate is never negative, and where no event was seen, or nothing but events, the interval still has a width. What the
clusters say is told as a number of independent requests or events, and for that number the exact intervals of Clopper
and Pearson (1934) and of Garwood (1936) are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaincinv, stdtrit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_TAIL = 0.025
_Z = 1.959963984540054
# Of fewer clusters of one kind a variance says little: they are then taken to be alike throughout.
FEW = 10


@dataclass(frozen=True)
class Interval:
    """A ratio of sums with its 95 % interval; `clusters` is how many independent groups it rests on.

    NaN where nothing can be said: an estimate without rows, a bound that has no end.
    """

    estimate: float
    low: float
    high: float
    clusters: int


@dataclass(frozen=True)
class _Totals:
    """Sums by cluster: what was counted, and of how much."""

    top: Floats
    bottom: Floats

    @property
    def ratio(self) -> float:
        return float(self.top.sum() / self.bottom.sum())

    @property
    def alike(self) -> float:
        """Size of the cluster that a request is in, on average: by so much alike requests raise a variance at most."""
        return float((self.bottom**2).sum() / self.bottom.sum())

    def variance(self) -> float:
        """Of the sum of the top, linearized (Cochran 1977, §6.3 and §9A.2), and widened as Student's t is."""
        count = len(self.top)
        if count < 2:
            return float("inf")
        residuals = self.top - self.ratio * self.bottom
        wider = float(stdtrit(count - 1, 1 - _TAIL)) / _Z
        return float((residuals**2).sum()) * count / (count - 1) * wider**2


def share(top: Floats, bottom: Floats, clusters: Ints) -> Interval:
    """Of `bottom` that is `top`: rows with 0 <= top <= bottom, of the cluster that each names.

    Korn and Graubard (1998): Clopper and Pearson's interval for the effective number, n / design effect. With fewer
    than `FEW` clusters that have some of it, or some of the rest, the design effect is the greatest possible one.
    """
    totals = _totals(top, bottom, clusters)
    if totals is None:
        return _nothing()
    size, p = float(totals.bottom.sum()), totals.ratio
    some, rest = int((totals.top > 0).sum()), int((totals.top < totals.bottom).sum())
    number = size / totals.alike
    if min(some, rest) >= FEW:
        number = size / max(totals.variance() / (p * (1 - p) * size), 1.0)
    hits, misses = p * number, (1 - p) * number
    low = float(betaincinv(hits, misses + 1, _TAIL)) if hits else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - _TAIL)) if misses else 1.0
    return Interval(p, low, high, len(totals.top))


def rate(top: Floats, bottom: Floats, clusters: Ints, *, event: float = 1.0) -> Interval:
    """Sum of `top` per `bottom`, both of them not negative: counts, amounts, losses.

    Garwood's exact interval of a Poisson count, for as many events as vary so much: the sum squared over its variance.
    Where nothing was seen, one that was missed would be worth `event`, and clusters count as alike throughout. Values
    below 0 have the interval of a normal distribution.
    """
    worth = float(np.abs(top).max(initial=0.0)) or event
    totals = _totals(top / worth, bottom, clusters)  # so that the largest value is one, whatever the currency
    if totals is None:
        return _nothing()
    if totals.top.min() < 0:
        spread = _Z * float(np.sqrt(totals.variance())) / float(totals.bottom.sum())
        low, high = (totals.ratio - spread, totals.ratio + spread) if np.isfinite(spread) else (np.nan, np.nan)
    else:
        low, high = _counted(totals)
    return Interval(worth * totals.ratio, worth * low, worth * high, len(totals.top))


def _counted(totals: _Totals) -> tuple[float, float]:
    """Bounds of a rate whose largest value is one: a total may always be off by one such value.

    Of fewer than `FEW` clusters with any, each is at most one event.
    """
    total, size, variance = float(totals.top.sum()), float(totals.bottom.sum()), totals.variance()
    if not total:
        return 0.0, float(gammaincinv(1, 1 - _TAIL)) * totals.alike / size
    if int((totals.top > 0).sum()) < FEW:
        variance = max(variance if np.isfinite(variance) else 0.0, total * float(totals.top.max()))
    events = total**2 / max(variance, 1.0)
    each = totals.ratio / events
    return each * float(gammaincinv(events, _TAIL)), each * float(gammaincinv(events + 1, 1 - _TAIL))


def quotient(top: Floats, bottom: Floats, clusters: Ints) -> Interval:
    """Sum of `top` per `bottom` where the bottom is what happened by chance: one over the rate of the bottom."""
    found = rate(bottom, top, clusters)
    if not bottom.sum():
        return _nothing()
    with np.errstate(divide="ignore"):
        low, estimate, high = (float(np.divide(1.0, one)) for one in (found.high, found.estimate, found.low))
    return Interval(estimate, low, high, found.clusters)


def _totals(top: Floats, bottom: Floats, clusters: Ints) -> _Totals | None:
    """None where there is nothing to divide by."""
    if not bottom.sum():
        return None
    _, member = np.unique(clusters, return_inverse=True)
    sums = (np.bincount(member, weights=one).astype(np.float64) for one in (top, bottom))
    return _Totals(*sums)


def _nothing() -> Interval:
    return Interval(float("nan"), float("nan"), float("nan"), 0)
