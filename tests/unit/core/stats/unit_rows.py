"""Made units for the tests of core/stats: rows of many visits by cell, and hypothesis strategies for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from serinus.core.stats.moments import WIDTH, Cell, Moments
from serinus.core.words import Arm

CELLS = tuple(Cell(step, arm) for step in (0, 1) for arm in (Arm.CANARY, Arm.STABLE))


@dataclass(frozen=True)
class Units:
    """`rows` (units, cells, 3) and `seen` (units, cells), as `Moments.of` takes them."""

    rows: NDArray[np.float64]
    seen: NDArray[np.bool_]

    def moments(self, part: NDArray[np.int64] | slice = slice(None)) -> Moments:
        return Moments.of(CELLS, self.rows[part], self.seen[part])


def made_units(seed: int, count: int, effect: float = 0.0, *, share: float = 0.4, paired: bool = False) -> Units:
    """Units with 1 to 4 requests in one or both steps; value follows the covariate; the second step's level is twice.

    `paired`: both arms answer each request, as in shadow; else a unit keeps its arm.
    """
    rng = np.random.default_rng(seed)
    rows, seen = np.zeros((count, len(CELLS), WIDTH)), np.zeros((count, len(CELLS)), dtype=bool)
    canary, taste = rng.random(count) < share, rng.gamma(4.0, 0.25, count)
    for step in (0, 1):
        came = rng.random(count) < 0.6
        base = np.where(came, 1.0 + rng.integers(0, 4, count), 0.0)
        covariate = base * taste
        for place, arm in ((2 * step, canary), (2 * step + 1, ~canary)):
            mine = came & (arm | paired)
            level = (1.0 + step) * (1.0 + effect * (place % 2 == 0))
            value = level * (covariate + rng.normal(0.0, 0.5, count) * np.sqrt(base)) + 3.0 * base
            rows[mine, place] = np.stack([value, base, covariate], axis=1)[mine]
            seen[mine, place] = True
    return Units(rows, seen)


def unit_sets() -> st.SearchStrategy[Units]:
    """Sets of 40 to 120 units."""
    return st.builds(
        made_units,
        st.integers(0, 10_000),
        st.integers(40, 120),
        st.floats(-0.5, 0.5),
        share=st.floats(0.3, 0.7),
        paired=st.booleans(),
    )
