"""Where looks fall: a grid of closed rows for each KPI and step, fixed beforehand (DESIGN D7).

Invariant: whether a look falls behind a row depends on the rows up to it alone, in order of closing; so no batching can
change a verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serinus.core.card import Kpi

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# So many looks of a step follow its units; later ones follow its rows, each a share of those that have closed,
MANY_LOOKS = 100
SHARE = 0.01
# and come after so much time, by when windows ended, for KPIs that are known at once and for others.
AT_ONCE_SECONDS, LATER_SECONDS = 30.0, 3600.0
# Units that come again bring evidence as well: so many rows for a unit.
ROWS_FOR_A_UNIT = 10


@dataclass
class _Step:
    """Counted of one step: `looks`, `rows`, and new `units` since the last look; `rows_at`, `due_at` are as of that."""

    looks: int = 0
    rows: int = 0
    units: int = 0
    rows_at: int = 0
    due_at: float = 0.0


class Grid:
    """Of one KPI and stage. A step's next look is due when since its last `look_every` units came for the first time or
    ten times as many rows; after a hundred looks when a hundredth of its rows came, or half a minute (an hour) is over
    and `look_every` rows came.
    """

    def __init__(self, kpi: Kpi) -> None:
        self._every = kpi.look_every
        self._seconds = AT_ONCE_SECONDS if kpi.formula.known_at_once else LATER_SECONDS
        self._steps: dict[int, _Step] = {}

    def ends(self, step: Ints, first: Bools, last: Bools, due: Floats) -> list[int]:
        """Of the rows that closed next: how many are before each look. A look never parts an entry.

        `first`: of its unit in the step; `last`: of its entry; `due` (epoch s): when its window ended, never falling.
        """
        closed = np.flatnonzero(last)
        found = set[int]()
        for one in np.unique(step).tolist():
            found.update(self._of_step(one, np.flatnonzero(step == one), first, closed, due))
        return sorted(found)

    def _of_step(self, step: int, rows: Ints, first: Bools, closed: Ints, due: Floats) -> list[int]:
        at, found, begin = self._steps.setdefault(step, _Step()), [], 0
        units, whens, before = np.cumsum(first[rows]), due[rows], at.rows
        while (hit := self._next(at, units - (units[begin - 1] if begin else 0), whens, before)) < len(rows):
            end = int(closed[np.searchsorted(closed, rows[hit])])
            found.append(end + 1)
            begin = int(np.searchsorted(rows, end, side="right"))
            at.looks, at.units, at.rows_at, at.due_at = at.looks + 1, 0, before + begin, float(due[end])
        at.rows = before + len(rows)
        at.units += int(units[-1] - (units[begin - 1] if begin else 0))
        return found

    def _next(self, at: _Step, units: Ints, due: Floats, before: int) -> int:
        """Behind which of the rows, with `before` of the step closed before them, the next look falls."""
        behind = at.rows_at - before - 1  # the row of the last look
        if at.looks < MANY_LOOKS:
            return min(int(np.searchsorted(units, self._every - at.units)), behind + ROWS_FOR_A_UNIT * self._every)
        share = behind + math.ceil(SHARE * at.rows_at)
        late = max(int(np.searchsorted(due, at.due_at + self._seconds)), behind + self._every)
        return min(share, late)
