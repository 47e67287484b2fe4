"""From judged rows to looks: the increments of evidence at each grid point of each KPI (DESIGN D7).

Invariant: looks lie on the grid of `grid.py` and are numbered in order of closing; so when somebody asks changes how
many there are, never what is in them. They are a fold: each row is taken once, and the same rows in other parts give
the same looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.card import Kpi
from serinus.core.stats.moments import WIDTH, Cell, Moments
from serinus.core.stats.reading import Counts, Look
from serinus.core.words import Arm, Stage
from serinus.evidence.grid import Grid
from serinus.evidence.matching import codes, column
from serinus.evidence.rollout_rows import ARMS, CANARY_CODE, Judged, Sorted
from serinus.evidence.units import Seen, grown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
INCIDENT_SECONDS = 10.0


@dataclass(frozen=True)
class Window:
    """The rows of one window with the order in which they closed: `closed` rises, and is comparable across windows."""

    rows: Sorted
    closed: Floats


@dataclass(frozen=True)
class Placed:
    """A look and where it stands in the order of closing; `position` is its KPI's, for ties."""

    closed: float
    position: int
    look: Look


def of_one_arm(kpi: Kpi, table: pa.Table, covariates: Sequence[str]) -> Moments:
    """The moments of KPI rows of one revision, as if all were of one step: what a plan starts from."""
    unit = codes(table["unit"])
    if kpi.per == "unit":
        first = np.flatnonzero(Seen().first(unit))
        table, unit = table.take(pa.array(first)), unit[first]
    totals = np.zeros((int(unit.max()) + 1, WIDTH))
    np.add.at(totals, unit, _vectors(kpi, table, covariates))
    return Moments.of((Cell(0, Arm.STABLE),), totals[:, None], np.ones((len(totals), 1), dtype=np.bool_))


@dataclass(frozen=True)
class _Rows:
    """What looks are made of, a row an element. `last`: of its entry; `due`: when its window ended, never falling.

    `of_step`: the unit's first in that step. `vector` (rows, 3): what is summed; of a count its first says whether an
    incident begins.
    """

    unit: Ints
    step: Ints
    arm: Ints
    at: Floats
    due: Floats
    closed: Floats
    last: Bools
    of_step: Bools
    vector: Floats

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(*(getattr(self, one.name)[rows] for one in fields(self)))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            *(np.concatenate([getattr(self, one.name), getattr(other, one.name)]) for one in fields(self))
        )


class KpiLooks:
    """The looks of one KPI and stage; keeps the rows behind the last of them, and what each unit has come to."""

    def __init__(self, kpi: Kpi, stage: Stage, position: int, covariates: Sequence[str]) -> None:
        self._kpi, self._stage, self._position, self._covariates = kpi, stage, position, tuple(covariates)
        self._counts = kpi.formula.estimator == "count"
        self._units, self._in_step = Seen(), dict[int, Seen]()
        self._step_units, self._began = dict[int, int](), dict[int, float]()
        self._incidents = set[tuple[int, int, int]]()
        self._totals = _Totals()
        self._grid = Grid(kpi)
        self._left: _Rows | None = None
        self._number, self._latest, self._due = 0, -np.inf, -np.inf

    def take(self, part: Judged, unit: Ints, closed: Floats) -> list[Placed]:
        """The looks that more rows bring, which closed after all before; `unit` numbers what has one name."""
        if self._kpi.per == "unit":
            keep = np.flatnonzero(np.isin(part.entry, part.entry[self._units.first(unit)]))
            part = Judged(part.table.take(pa.array(keep)), part.entry[keep], part.step[keep], part.arm[keep])
            unit, closed = unit[keep], closed[keep]
        rows = self._rows(part, unit, closed)
        ends, before = self._grid.ends(rows.step, rows.of_step, rows.last, rows.due), 0
        if self._left is not None:
            rows, before = self._left + rows, len(self._left.unit)
        found, begin = [], 0
        for end in ends:
            found.append(self._look(rows[begin : before + end]))
            begin = before + end
        self._left = rows[begin:]
        return found

    def _rows(self, part: Judged, unit: Ints, closed: Floats) -> _Rows:
        of_step = np.zeros(len(unit), dtype=np.bool_)
        for step in np.unique(part.step).tolist():
            here = np.flatnonzero(part.step == step)
            of_step[here] = self._in_step.setdefault(step, Seen()).first(unit[here])
        due = column(part.table, "as_of") + column(part.table, "window")
        due = np.maximum(np.maximum.accumulate(due), self._due)
        self._due = float(due.max(initial=self._due))
        last = np.ones(len(unit), dtype=np.bool_)
        last[:-1] = np.diff(part.entry) != 0
        at = column(part.table, "at")
        vector = self._begins(part, at)[:, None] if self._counts else _vectors(self._kpi, part.table, self._covariates)
        return _Rows(unit, part.step, part.arm, at, due, closed, last, of_step, vector)

    def _begins(self, part: Judged, at: Floats) -> Floats:
        """1 where an incident begins: the bad requests of one arm within ten seconds are one."""
        found = np.zeros(len(at))
        for row in np.flatnonzero(column(part.table, self._kpi.name) > 0).tolist():
            key = (int(part.step[row]), int(part.arm[row]), int(at[row] // INCIDENT_SECONDS))
            found[row] = key not in self._incidents
            self._incidents.add(key)
        return found

    def _look(self, rows: _Rows) -> Placed:
        step = int(rows.step[-1])
        for one in np.unique(rows.step).tolist():
            here = rows.step == one
            self._step_units[one] = self._step_units.get(one, 0) + int((here & rows.of_step).sum())
            self._began[one] = min(self._began.get(one, np.inf), float(rows.at[here].min()))
        self._number += 1
        self._latest = max(self._latest, float(rows.at.max()))
        increment = _counted(rows) if self._counts else self._totals.add(rows)
        units, began = self._step_units[step], self._began[step]
        look = Look(0, self._kpi.name, self._number, self._stage, step, self._latest, units, increment, began)
        return Placed(float(rows.closed[-1]), self._position, look)


class _Totals:
    """Running totals of units by step and arm: a unit that comes again changes what it was."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._sums = np.zeros((0, 0, WIDTH))
        self._seen = np.zeros((0, 0), dtype=np.bool_)

    def add(self, rows: _Rows) -> Moments:
        """What these rows change."""
        self._steps += sorted(set(np.unique(rows.step).tolist()) - set(self._steps))
        shape = (int(rows.unit.max()) + 1, len(self._steps) * len(ARMS))
        self._sums, self._seen = grown(self._sums, shape), grown(self._seen, shape)
        steps = np.array(self._steps)
        order = np.argsort(steps)
        place = order[np.searchsorted(steps[order], rows.step)] * len(ARMS) + rows.arm
        touched = np.unique(rows.unit)
        before = self._of(touched)
        np.add.at(self._sums, (rows.unit, place), rows.vector)
        self._seen[rows.unit, place] = True
        return self._of(touched) - before

    def _of(self, units: Ints) -> Moments:
        cells = [Cell(step, arm) for step in self._steps for arm in ARMS]
        order = np.array(sorted(range(len(cells)), key=cells.__getitem__))
        sums, seen = self._sums[units][:, order], self._seen[units][:, order]
        return Moments.of(tuple(cells[one] for one in order.tolist()), sums, seen)


def _vectors(kpi: Kpi, table: pa.Table, covariates: Sequence[str]) -> Floats:
    """Value, base and covariate of each row. A quotient has a base of its own; where that counts places, the test
    counts whole pages of k, as good as requests.
    """
    vectors = np.ones((len(table), WIDTH))
    vectors[:, 2] = _covariate(kpi, table, covariates)
    for place, name in enumerate(kpi.columns):
        vectors[:, place] = column(table, name)
    if kpi.formula.whole_pages:
        vectors[:, :2] /= kpi.k or 1
    if kpi.formula.answered_only:
        failed = pc.not_equal(table["error"], "").to_numpy(zero_copy_only=False)
        vectors[failed] = 0.0
    return vectors


def _covariate(kpi: Kpi, table: pa.Table, covariates: Sequence[str]) -> Floats:
    if kpi.covariate is None:
        return np.zeros(len(table))
    at = list(covariates).index(kpi.covariate)
    logged = table["covariates"].to_pylist()
    return np.array([one[at] if one is not None and len(one) > at else 0.0 for one in logged])


def _counted(rows: _Rows) -> tuple[Counts, ...]:
    """Requests and incidents by step."""
    found, canary, begins = [], rows.arm == CANARY_CODE, rows.vector[:, 0] > 0
    for step in np.unique(rows.step).tolist():
        here = rows.step == step
        masks = {Arm.STABLE: here & ~canary, Arm.CANARY: here & canary}
        incidents = {arm: int((mask & begins).sum()) for arm, mask in masks.items()}
        found.append(Counts(step, incidents, {arm: int(mask.sum()) for arm, mask in masks.items()}))
    return tuple(found)
