"""Sample ratio mismatch: do the arms get the shares of units they should? If not, the experiment is broken.

The sequential multinomial test with a Dirichlet mixture around the planned shares (Lindon and Malek 2022,
arXiv:2011.03567). Its e-value may be looked at any time; those of the steps multiply.

Invariant: a unit counts once, in the step and on the arm of its first exposure. Only new units fall on an arm afresh: a
unit that returns after a rise of the weight brings its arm along, and counted again it would be evidence twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, xlog1py, xlogy

from serinus.core.stats.moments import Cell
from serinus.core.words import Arm

Floats = NDArray[np.float64]
# How firmly the mixture sits around the planned share, in units: 1000 looks for deviations of a few per cent.
FIRMNESS = 1000.0
ALPHA = 0.01


@dataclass(frozen=True)
class Srm:
    """`log_e`: evidence against the planned shares; `mismatch`: enough of it to freeze everything."""

    log_e: float
    mismatch: bool


def mismatch(units: Mapping[Cell, int], shares: Mapping[int, float], *, alpha: float = ALPHA) -> Srm:
    """`units`: new ones by step and arm; `shares`: the canary's planned share of the units, by weight step."""
    total = 0.0
    for step, share in shares.items():
        canary, stable = units.get(Cell(step, Arm.CANARY), 0), units.get(Cell(step, Arm.STABLE), 0)
        total += float(log_e(canary, stable, share))
    return Srm(total, total >= -np.log(alpha))


def log_e(canary: float | Floats, stable: float | Floats, share: float) -> Floats:
    """The log e-value of one step; elementwise."""
    a, b = FIRMNESS * share, FIRMNESS * (1 - share)
    likelihood = xlogy(canary, share) + xlog1py(stable, -share)
    return np.asarray(betaln(a + canary, b + stable) - betaln(a, b) - likelihood)
