"""Looks are compared, sums of floats up to their last bits."""

from __future__ import annotations

import numpy as np

from serinus.core.stats.moments import Moments
from serinus.core.stats.reading import Look


def same_looks(mine: tuple[Look, ...], theirs: tuple[Look, ...]) -> None:
    """Fails where one of them differs."""
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        left = (one.sequence, one.kpi, one.number, one.stage, one.step, one.at, one.step_units, one.step_from)
        assert left == (
            other.sequence,
            other.kpi,
            other.number,
            other.stage,
            other.step,
            other.at,
            other.step_units,
            other.step_from,
        )
        if isinstance(one.increment, Moments):
            assert isinstance(other.increment, Moments)
            rest = one.increment - other.increment
            assert rest.distinct == 0
            assert not rest.units.any()
            assert not rest.positive.any()
            np.testing.assert_allclose(rest.sums, 0.0, atol=1e-9)
            np.testing.assert_allclose(rest.cross, 0.0, atol=1e-9)
        else:
            assert one.increment == other.increment
