"""The looks of a rollout as they were counted once, each anew from the first row: the oracle of those that are folded.

Plain and slow on purpose: it costs the square of the rows. Its grid is D7's, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.card import Kpi
from serinus.core.stats.moments import WIDTH, Cell, Moments
from serinus.core.stats.reading import Counts, Look
from serinus.core.words import Arm, Stage
from serinus.evidence.looks import Placed, Window
from serinus.evidence.matching import codes, column
from serinus.evidence.rollout_rows import ARMS, CANARY_CODE, Judged, Routed, Sorted, judged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
INCIDENT_SECONDS = 10.0


def looks(
    routed: Routed, kpis: Sequence[Kpi], windows: Mapping[str, Window], covariates: Sequence[str]
) -> tuple[Placed, ...]:
    """All looks so far, numbered from 1: those that close together goals first, then in the card's order.

    `windows` by KPI name; `covariates` in the order predictors log them.
    """
    placed = [
        one
        for position, kpi in enumerate(sorted(kpis, key=lambda kpi: kpi.role != "goal"))
        if kpi.name in windows
        for stage in Stage
        for one in _of_stage(routed, kpi, windows[kpi.name], stage, covariates, position)
    ]
    placed.sort(key=lambda one: (one.closed, one.position, one.look.number))
    return tuple(replace(one, look=replace(one.look, sequence=number)) for number, one in enumerate(placed, 1))


def _of_stage(
    routed: Routed, kpi: Kpi, window: Window, stage: Stage, covariates: Sequence[str], position: int
) -> list[Placed]:
    part = _judged(routed, window.rows, stage)
    if kpi.per == "unit":
        part = _first_of_units(part)
    if not len(part.table):
        return []
    unit = codes(part.table["unit"])
    ends = _grid(kpi, part, unit)
    at = column(part.table, "at")
    closed = _closing(window, part)
    increments = _increments(kpi, part, unit, ends, covariates)
    found = []
    for number, (end, increment) in enumerate(zip(ends.tolist(), increments, strict=True), 1):
        step = int(part.step[end - 1])
        here = part.step[:end] == step
        units, began = len(np.unique(unit[:end][here])), float(at[:end][here].min())
        look = Look(0, kpi.name, number, stage, step, float(at[:end].max()), units, increment, began)
        found.append(Placed(float(closed[end - 1]), position, look))
    return found


def _judged(routed: Routed, rows: Sorted, stage: Stage) -> Judged:
    """In shadow both rows of a request one after the other, stable first, where the later of them was."""
    _, part = judged(routed, rows, stage)
    if stage is Stage.WEIGHTS:
        return part
    request, arms = part.table["request_id"].to_pylist(), part.arm.tolist()
    place = {(one, arm): row for row, (one, arm) in reversed(list(enumerate(zip(request, arms, strict=True))))}
    whole = sorted(
        (max(place[one, 0], place[one, 1]), one) for one in set(request) if (one, 0) in place and (one, 1) in place
    )
    order = np.array([place[one, arm] for _, one in whole for arm in (0, 1)], dtype=np.int64)
    return Judged(
        part.table.take(pa.array(order)), np.repeat(np.arange(len(whole)), 2), part.step[order], part.arm[order]
    )


def _increments(
    kpi: Kpi, part: Judged, unit: Ints, ends: Ints, covariates: Sequence[str]
) -> Sequence[Moments | tuple[Counts, ...]]:
    if kpi.formula.estimator == "count":
        return _counts(kpi, part, ends)
    return _moments(kpi, part, unit, ends, covariates)


def _closing(window: Window, part: Judged) -> Floats:
    """When each judged row closed, never falling."""
    place = pc.index_in(part.table["id"], value_set=window.rows.table["id"]).to_numpy()
    return np.maximum.accumulate(window.closed[place])


def _first_of_units(part: Judged) -> Judged:
    """One observation a unit: its first request, in shadow on both arms."""
    if not len(part.table):
        return part
    _, first = np.unique(codes(part.table["unit"]), return_index=True)
    keep = np.flatnonzero(np.isin(part.entry, part.entry[first]))
    return Judged(part.table.take(pa.array(keep)), part.entry[keep], part.step[keep], part.arm[keep])


def _grid(kpi: Kpi, part: Judged, unit: Ints) -> Ints:
    """Row counts at which a look falls, row by row as D7 says it."""
    due = np.maximum.accumulate(column(part.table, "as_of") + column(part.table, "window"))
    wait = 30.0 if kpi.formula.known_at_once else 3600.0
    rows, looks, found, called = dict[int, int](), dict[int, int](), list[int](), set[int]()
    seen, new, rows_at, due_at = set[tuple[int, int]](), dict[int, int](), dict[int, int](), dict[int, float]()
    for row, (step, one) in enumerate(zip(part.step.tolist(), unit.tolist(), strict=True)):
        rows[step] = rows.get(step, 0) + 1
        new[step] = new.get(step, 0) + ((step, one) not in seen)
        seen.add((step, one))
        since = rows[step] - rows_at.get(step, 0)
        if looks.get(step, 0) < 100:
            hit = new[step] >= kpi.look_every or since >= 10 * kpi.look_every
        else:
            late = due[row] - due_at[step] >= wait and since >= kpi.look_every
            hit = late or since >= 0.01 * rows_at[step]
        called |= {step} if hit else set()
        if row == len(unit) - 1 or part.entry[row + 1] != part.entry[row]:
            for mine in called:
                looks[mine], new[mine] = looks.get(mine, 0) + 1, 0
                rows_at[mine], due_at[mine] = rows[mine], float(due[row])
            found += [row + 1] if called else []
            called = set()
    return np.array(found, dtype=np.int64)


def _moments(kpi: Kpi, part: Judged, unit: Ints, ends: Ints, covariates: Sequence[str]) -> list[Moments]:
    """Differences of the units' running totals: a unit that comes again changes what it was."""
    steps = np.unique(part.step)
    cells = tuple(sorted(Cell(int(step), arm) for step in steps for arm in ARMS))
    columns = np.array([[cells.index(Cell(int(step), arm)) for arm in ARMS] for step in steps])
    place = columns[np.searchsorted(steps, part.step), part.arm]
    vectors = _vectors(kpi, part, covariates)
    totals = np.zeros((int(unit.max()) + 1, len(cells), WIDTH))
    seen = np.zeros(totals.shape[:2], dtype=np.bool_)
    found, begin = [], 0
    for end in ends.tolist():
        rows = slice(begin, end)
        touched = np.unique(unit[rows])
        before = Moments.of(cells, totals[touched], seen[touched])
        np.add.at(totals, (unit[rows], place[rows]), vectors[rows])
        seen[unit[rows], place[rows]] = True
        found.append(Moments.of(cells, totals[touched], seen[touched]) - before)
        begin = end
    return found


def _vectors(kpi: Kpi, part: Judged, covariates: Sequence[str]) -> Floats:
    """Value, base and covariate of each row. A quotient has a base of its own; where that counts places, the test
    counts whole pages of k, as good as requests.
    """
    table = part.table
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


def _counts(kpi: Kpi, part: Judged, ends: Ints) -> list[tuple[Counts, ...]]:
    """Requests and incidents by step; the bad requests of one arm within ten seconds are one incident."""
    bad = np.flatnonzero(column(part.table, kpi.name) > 0)
    spell = np.floor(column(part.table, "at") / INCIDENT_SECONDS).astype(np.int64)
    keys = np.stack([part.step[bad], part.arm[bad], spell[bad]], axis=1)
    incident = np.zeros(len(part.table), dtype=np.bool_)
    if len(bad):
        incident[bad[np.unique(keys, axis=0, return_index=True)[1]]] = True
    found, begin = [], 0
    for end in ends.tolist():
        rows = slice(begin, end)
        found.append(_counted(part.step[rows], part.arm[rows] == CANARY_CODE, incident[rows]))
        begin = end
    return found


def _counted(step: Ints, canary: Bools, incident: Bools) -> tuple[Counts, ...]:
    found = []
    for one in np.unique(step).tolist():
        here = step == one
        masks = {Arm.STABLE: here & ~canary, Arm.CANARY: here & canary}
        found.append(
            Counts(
                one,
                {arm: int((mask & incident).sum()) for arm, mask in masks.items()},
                {arm: int(mask.sum()) for arm, mask in masks.items()},
            )
        )
    return tuple(found)
