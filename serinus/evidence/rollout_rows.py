"""KPI rows of one rollout: which step and arm each belongs to, and which may be judged.

Invariant: a row is judged only where the caller's bucket was right, one route was known to be in force, and the arm
that answered is the one assigned to the bucket in that step. What is left out is counted by its reason; the check of
the arms' shares leaves out the same, but for what the other arm answered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serinus.core.assignment import PER_PERCENT, places
from serinus.core.events import BucketCheck
from serinus.core.rollout.ports import FirstSeen
from serinus.core.stats.moments import Cell
from serinus.core.words import Arm, Stage
from serinus.evidence.matching import codes, column, is_in

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
STABLE_CODE, CANARY_CODE = 0, 1
ARMS = (Arm.STABLE, Arm.CANARY)


@dataclass(frozen=True)
class Span:
    """A step of a rollout as it was routed, from `begins` to `ends` (epoch s): `canary` is its weight in per cent."""

    step: int
    stage: Stage
    canary: int
    begins: float
    ends: float = float("inf")


@dataclass(frozen=True)
class Routed:
    """What happened to the traffic of a rollout so far. Rows within `settle` seconds of a change are not judged, and
    none in the `gaps` (epoch s) between one route and the next."""

    stable: str
    candidate: str
    seed: int
    spans: tuple[Span, ...]
    settle: float = 2.0
    gaps: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Judged:
    """Rows of one window that may be judged, of one stage, in order of closing.

    `entry` numbers what closes together: a row, or in shadow the two rows of one request. Arms are codes of `ARMS`.
    """

    table: pa.Table
    entry: Ints
    step: Ints
    arm: Ints


@dataclass(frozen=True)
class Sorted:
    """All rows of one window with their span (-1: none), the arm that answered, and why they are not judged ("")."""

    table: pa.Table
    span: Ints
    arm: Ints
    reason: NDArray[np.str_]

    def counts(self) -> dict[str, int]:
        """Requests that are not judged, by reason."""
        return {name: count for name, count in sorted(Counter(self.reason.tolist()).items()) if name}


def classify(routed: Routed, table: pa.Table) -> Sorted:
    """`table`: KPI rows of one window, any revision, in order of closing."""
    mine = np.flatnonzero(is_in(table["revision"], pa.array([routed.stable, routed.candidate])))
    table = table.take(pa.array(mine))
    at, span = column(table, "at"), np.full(len(table), -1)
    near = np.zeros(len(table), dtype=np.bool_)
    for position, one in enumerate(routed.spans):
        span[(at >= one.begins) & (at < one.ends)] = position
        near |= (np.abs(at - one.begins) < routed.settle) | (np.abs(at - one.ends) < routed.settle)
    between = np.zeros(len(table), dtype=np.bool_)
    for begins, ends in routed.gaps:
        between |= (span < 0) & (at >= begins) & (at < ends)
    inside = np.flatnonzero((span >= 0) | between)
    table, span, near, between = table.take(pa.array(inside)), span[inside], near[inside], between[inside]
    arm = is_in(table["revision"], pa.array([routed.candidate])).astype(np.int64)
    reason = np.array(table["bucket_check"].to_pylist(), dtype="U16")
    reason[reason == BucketCheck.OK.value] = ""
    reason[(reason == "") & between] = "between routes"
    reason[(reason == "") & near] = "route change"
    reason[(reason == "") & _misplaced(routed, table, span, arm)] = "other arm"
    return Sorted(table, span, arm, reason)


def _misplaced(routed: Routed, table: pa.Table, span: Ints, arm: Ints) -> Bools:
    """Rows answered by an arm that their bucket is not assigned to; in shadow any arm may answer."""
    buckets, found = table["bucket"].to_numpy(), np.zeros(len(table), dtype=np.bool_)
    place = np.array(places(routed.seed))
    for position, one in enumerate(routed.spans):
        if one.stage is Stage.WEIGHTS:
            here = span == position
            found[here] = arm[here] != (place[buckets[here]] < one.canary * PER_PERCENT)
    return found


def judged(routed: Routed, rows: Sorted, stage: Stage) -> Judged:
    """The rows of a stage that may be judged. In shadow only requests that both arms answered."""
    stages = np.array([one.stage is stage for one in routed.spans] or [False])
    keep = np.flatnonzero((rows.reason == "") & stages[rows.span])
    table, arm = rows.table.take(pa.array(keep)), rows.arm[keep]
    steps = np.array([one.step for one in routed.spans], dtype=np.int64)[rows.span[keep]]
    if stage is Stage.WEIGHTS:
        return Judged(table, np.arange(len(keep)), steps, arm)
    return _paired(table, steps, arm)


def _paired(table: pa.Table, step: Ints, arm: Ints) -> Judged:
    """Both rows of a request one after the other, stable first, where the later of them was."""
    request = codes(table["request_id"])
    last = {}
    seen: dict[tuple[int, int], int] = {}
    for position, key in enumerate(zip(request.tolist(), arm.tolist(), strict=True)):
        seen.setdefault(key, position)
        last[key[0]] = position
    whole = [one for one in last if (one, STABLE_CODE) in seen and (one, CANARY_CODE) in seen]
    whole.sort(key=lambda one: max(seen[one, STABLE_CODE], seen[one, CANARY_CODE]))
    order = np.array([seen[one, code] for one in whole for code in (STABLE_CODE, CANARY_CODE)], dtype=np.int64)
    return Judged(table.take(pa.array(order)), np.repeat(np.arange(len(whole)), 2), step[order], arm[order])


def first_seen(routed: Routed, rows: Sorted, looks: Ints) -> tuple[FirstSeen, ...]:
    """Once a unit, whatever its assignment, in order of closing: what a check of the arms' shares counts.

    `looks`: by row, how many looks had closed before it did.
    """
    weighted = np.array([one.stage is Stage.WEIGHTS for one in routed.spans] or [False])
    keep = np.flatnonzero(np.isin(rows.reason, ["", "other arm"]) & weighted[rows.span])
    table = rows.table.take(pa.array(keep))
    _, first = np.unique(codes(table["unit"]), return_index=True)
    found = []
    for position in keep[np.sort(first)].tolist():
        cell = Cell(routed.spans[int(rows.span[position])].step, ARMS[int(rows.arm[position])])
        found.append(FirstSeen(cell, float(rows.table["at"][position].as_py()), int(looks[position])))
    return tuple(found)
