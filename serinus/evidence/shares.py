"""The check of the arms' shares: every unit once, where it was first seen, whatever its assignment.

Invariant: the test is looked at after every unit, in order of closing; so no batching moves the place of its crossing.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serinus.core.rollout.evidence import SampleRatio
from serinus.core.rollout.ports import FirstSeen
from serinus.core.stats import srm
from serinus.core.stats.moments import Cell
from serinus.core.words import Stage
from serinus.evidence.matching import column
from serinus.evidence.rollout_rows import ARMS, CANARY_CODE, Routed, Sorted
from serinus.evidence.units import Seen

Ints = NDArray[np.int64]


class Shares:
    """Of one rollout. `units`: in order of their first request under weights."""

    def __init__(self) -> None:
        self.units: list[FirstSeen] = []
        self._seen, self._counts = Seen(), Counter[tuple[int, int]]()
        self._most = 0.0
        self._crossed: FirstSeen | None = None

    @property
    def ratio(self) -> SampleRatio:
        """The test so far."""
        p_value = min(1.0, math.exp(-self._most))
        if self._crossed is None:
            return SampleRatio(p_value=p_value)
        return SampleRatio(crossed_after=self._crossed.looks, at=self._crossed.at, p_value=p_value)

    def by_cell(self) -> dict[Cell, int]:
        """How many units were first seen where."""
        return {Cell(step, ARMS[arm]): count for (step, arm), count in sorted(self._counts.items())}

    def take(self, routed: Routed, rows: Sorted, unit: Ints, looks: Ints) -> None:
        """More rows, that closed after all before. `looks`: by row, how many looks had closed before it did."""
        weighted = np.array([one.stage is Stage.WEIGHTS for one in routed.spans] or [False])
        keep = np.flatnonzero(np.isin(rows.reason, ["", "other arm"]) & weighted[rows.span])
        keep = keep[self._seen.first(unit[keep])]
        if not len(keep):
            return
        step = np.array([one.step for one in routed.spans], dtype=np.int64)[rows.span[keep]]
        arm, at = rows.arm[keep], column(rows.table.take(pa.array(keep)), "at")
        fresh = [
            FirstSeen(Cell(one, ARMS[place]), when, before)
            for one, place, when, before in zip(
                step.tolist(), arm.tolist(), at.tolist(), looks[keep].tolist(), strict=True
            )
        ]
        self._test(routed, step, arm, fresh)
        self.units += fresh
        self._counts.update(zip(step.tolist(), arm.tolist(), strict=True))

    def _test(self, routed: Routed, step: Ints, arm: Ints, fresh: list[FirstSeen]) -> None:
        total = np.zeros(len(fresh))
        for span in routed.spans:
            share = span.canary / 100
            if span.stage is Stage.WEIGHTS and 0 < share < 1:
                here, known = step == span.step, self._counts
                canary = known[span.step, CANARY_CODE] + np.cumsum(here & (arm == CANARY_CODE))
                stable = known[span.step, 1 - CANARY_CODE] + np.cumsum(here & (arm != CANARY_CODE))
                total += srm.log_e(canary.astype(np.float64), stable.astype(np.float64), share)
        self._most = max(self._most, float(total.max()))
        crossed = np.flatnonzero(total >= -math.log(srm.ALPHA))
        if self._crossed is None and len(crossed):
            self._crossed = fresh[int(crossed[0])]
