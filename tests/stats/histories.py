"""Whole histories of made-up or recorded experiments: the sums and cross moments at every look, many runs at once.

Invariant: a history holds what `Moments` would after each look, so what is verified is the code that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serinus.core.stats.estimate import Effect, Rule, measure
from serinus.core.stats.moments import BASE, VALUE, WIDTH, Cell
from serinus.core.words import Arm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def cells_of(steps: int) -> tuple[Cell, ...]:
    """Canary and stable of each step, in this order: cell 2 · step + (0 for the canary, 1 for the stable arm)."""
    return tuple(Cell(step, arm) for step in range(steps) for arm in (Arm.CANARY, Arm.STABLE))


@dataclass(frozen=True)
class Histories:
    """Cumulative, axes (..., looks, cells): units, those with a positive value, sums (+ 3), cross (..., 3c, 3c)."""

    units: Floats
    positive: Floats
    sums: Floats
    cross: Floats

    @property
    def cells(self) -> tuple[Cell, ...]:
        return cells_of(self.units.shape[-1] // 2)

    def effect(self, *, adjust: bool = False) -> Effect:
        return measure(self.cells, self.units.astype(np.int64), self.sums, self.cross, adjust=adjust)

    def enough(self, burn_in: int, positive: int = 30) -> Bools:
        """(..., looks): as the judge counts, by the step that has most units."""
        canary, stable = (self.units[..., at::2].max(axis=-1) for at in (0, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = self.positive[..., 1::2].max(axis=-1) * np.minimum(canary / stable, 1.0)
        found = np.fmax(expected, self.positive[..., 0::2].max(axis=-1))
        return np.asarray((np.minimum(canary, stable) >= burn_in) & (found >= positive))

    def pooled(self) -> Histories:
        """Steps forgotten: a mistake. Right only where no unit was in two steps."""
        places = [np.arange(0, self.units.shape[-1], 2), np.arange(1, self.units.shape[-1], 2)]
        blocks = [sum(self.cross[..., 3 * at : 3 * at + 3, 3 * at : 3 * at + 3] for at in place) for place in places]
        cross = np.zeros((*self.cross.shape[:-2], 2 * WIDTH, 2 * WIDTH))
        cross[..., :WIDTH, :WIDTH], cross[..., WIDTH:, WIDTH:] = blocks
        return Histories(
            np.stack([self.units[..., place].sum(axis=-1) for place in places], axis=-1),
            np.stack([self.positive[..., place].sum(axis=-1) for place in places], axis=-1),
            np.stack([self.sums[..., place, :].sum(axis=-2) for place in places], axis=-2),
            cross,
        )


def crossed(histories: Histories, rule: Rule, burn_in: int = 30, positive: int = 30, *, adjust: bool = False) -> Bools:
    """(..., looks): where the rule decides."""
    _, decided = histories.effect(adjust=adjust).bound(rule)
    return np.asarray(decided & histories.enough(burn_in, positive))


def naive_z(histories: Histories, z: float, burn_in: int = 30) -> Bools:
    """(..., looks): where a test for one look, used at every look, sees a difference; a mistake."""
    effect = histories.effect()
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(effect.ratio - 1) > z * np.sqrt(effect.variance(1.0))) & histories.enough(burn_in))


def of_totals(units: Floats, value: Floats, squares: Floats, positive: Floats | None = None) -> Histories:
    """Of closed observations, one a unit: counts, sums and sums of squares of each look, axes (..., looks, cells)."""
    n, y, yy = (np.cumsum(part, axis=-2, dtype=np.float64) for part in (units, value, squares))
    cells = n.shape[-1]
    sums = np.stack([y, n, np.zeros_like(n)], axis=-1)
    cross = np.zeros((*n.shape[:-1], cells * WIDTH, cells * WIDTH))
    at = np.arange(cells) * WIDTH
    cross[..., at + VALUE, at + VALUE], cross[..., at + BASE, at + BASE] = yy, n
    cross[..., at + VALUE, at + BASE] = cross[..., at + BASE, at + VALUE] = y
    return Histories(n, y if positive is None else np.cumsum(positive, axis=-2), sums, cross)


@dataclass(frozen=True)
class Requests:
    """One run's requests: `unit` from 0, `look` that counts it first, `cell`, and its vector."""

    unit: Ints
    look: Ints
    cell: Ints
    value: Floats
    base: Floats
    covariate: Floats


def of_requests(runs: Sequence[Requests], looks: int, cells: int) -> Histories:
    """Of units with any number of requests in any cells: cross moments of each unit's vector so far."""
    parts = [_of_run(run, looks, cells) for run in runs]
    return Histories(*(np.stack([part[at] for part in parts]) for at in range(4)))


def _of_run(run: Requests, looks: int, cells: int) -> tuple[Floats, Floats, Floats, Floats]:
    state = np.zeros((int(run.unit.max()) + 1, cells * WIDTH))
    seen = np.zeros((len(state), cells), dtype=bool)
    units, positive = np.zeros((looks, cells)), np.zeros((looks, cells))
    sums, cross = np.zeros((looks, cells, WIDTH)), np.zeros((looks, cells * WIDTH, cells * WIDTH))
    vectors = np.stack([run.value, run.base, run.covariate], axis=1)
    order = np.argsort(run.look, kind="stable")
    ends = np.searchsorted(run.look[order], np.arange(looks), side="right")
    begin = 0
    for look, end in enumerate(ends):
        now = order[begin:end]
        begin = end
        touched = np.unique(run.unit[now])
        before, known = state[touched], seen[touched].sum(axis=0)
        np.add.at(state.reshape(len(state), cells, WIDTH), (run.unit[now], run.cell[now]), vectors[now])
        seen[run.unit[now], run.cell[now]] = True
        after = state[touched]
        sums[look] = (after - before).sum(axis=0).reshape(cells, WIDTH)
        cross[look] = after.T @ after - before.T @ before
        gained = (after > 0).sum(axis=0) - (before > 0).sum(axis=0)
        positive[look] = gained.reshape(cells, WIDTH)[:, VALUE]
        units[look] = seen[touched].sum(axis=0) - known
    units, positive, sums, cross = (np.cumsum(part, axis=0) for part in (units, positive, sums, cross))
    return units, positive, sums, cross
