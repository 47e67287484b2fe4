"""Sufficient statistics of a KPI: totals and cross moments of the units' rows by (step, arm).

Invariant: increments of disjoint parts of the same ordered evidence add up to the whole, in any grouping; what a test
needs can always be computed anew from them. A unit that returns, in another step or on another arm, stays one unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serinus.core.words import Arm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# A unit's vector in a cell: sums of the KPI, of its base (requests, or what was observed) and of the covariate.
VALUE, BASE, COVARIATE = range(3)
WIDTH = 3


@dataclass(frozen=True, order=True)
class Cell:
    """One step on one arm; `step` is the index of the rollout's step."""

    step: int
    arm: Arm


@dataclass(frozen=True)
class Moments:
    """Over units u with vectors z_u of shape (cells, 3): value, base and covariate summed over the unit's rows there.

    `units` (cells,): units with a row in the cell; `positive` (cells,): those with value > 0 there. `sums` (cells, 3)
    is the sum of z_u, `cross` (cells · 3, cells · 3) that of the outer product of z_u, flattened, with itself.
    `distinct`: units in any cell.
    """

    cells: tuple[Cell, ...]
    distinct: int
    units: Ints
    positive: Ints
    sums: Floats
    cross: Floats

    @classmethod
    def zero(cls, cells: Sequence[Cell]) -> Moments:
        """Nothing seen yet."""
        k = len(cells)
        none = np.zeros(k, dtype=np.int64)
        return cls(tuple(cells), 0, none, none.copy(), np.zeros((k, WIDTH)), np.zeros((k * WIDTH, k * WIDTH)))

    @classmethod
    def of(cls, cells: Sequence[Cell], rows: Floats, seen: NDArray[np.bool_]) -> Moments:
        """Of whole units: `rows` (units, cells, 3), `seen` (units, cells) where a unit has any row."""
        flat = rows.reshape(len(rows), -1)
        return cls(
            tuple(cells),
            int(seen.any(axis=1).sum()),
            seen.sum(axis=0).astype(np.int64),
            (seen & (rows[:, :, VALUE] > 0)).sum(axis=0).astype(np.int64),
            rows.sum(axis=0),
            flat.T @ flat,
        )

    def __add__(self, other: Moments) -> Moments:
        """The sum over the cells of both."""
        cells = tuple(sorted({*self.cells, *other.cells}))
        one, two = self._on(cells), other._on(cells)
        return Moments(
            cells,
            one.distinct + two.distinct,
            one.units + two.units,
            one.positive + two.positive,
            one.sums + two.sums,
            one.cross + two.cross,
        )

    def __sub__(self, other: Moments) -> Moments:
        """The increment from `other` to this."""
        cells = tuple(sorted({*self.cells, *other.cells}))
        one, two = self._on(cells), other._on(cells)
        return Moments(
            cells,
            one.distinct - two.distinct,
            one.units - two.units,
            one.positive - two.positive,
            one.sums - two.sums,
            one.cross - two.cross,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "cells": [[one.step, one.arm.value] for one in self.cells],
            "distinct": self.distinct,
            "units": self.units.tolist(),
            "positive": self.positive.tolist(),
            "sums": self.sums.tolist(),
            "cross": self.cross.tolist(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Moments:
        """The inverse of `as_dict`."""
        k = len(document["cells"])
        return cls(
            tuple(Cell(int(step), Arm(arm)) for step, arm in document["cells"]),
            int(document["distinct"]),
            np.array(document["units"], dtype=np.int64),
            np.array(document["positive"], dtype=np.int64),
            np.array(document["sums"], dtype=np.float64).reshape(k, WIDTH),
            np.array(document["cross"], dtype=np.float64).reshape(k * WIDTH, k * WIDTH),
        )

    def _on(self, cells: tuple[Cell, ...]) -> Moments:
        if cells == self.cells:
            return self
        place = np.array([cells.index(one) for one in self.cells], dtype=np.int64)
        flat = (place[:, None] * WIDTH + np.arange(WIDTH)).reshape(-1)
        wider = Moments.zero(cells)
        units, positive, sums, cross = wider.units, wider.positive, wider.sums, wider.cross
        units[place], positive[place], sums[place] = self.units, self.positive, self.sums
        cross[np.ix_(flat, flat)] = self.cross
        return Moments(cells, self.distinct, units, positive, sums, cross)
