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
from serinus.core.words import Arm, Stage
from serinus.evidence.matching import codes, column, is_in

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
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


def judged(routed: Routed, rows: Sorted, stage: Stage) -> tuple[Ints, Judged]:
    """The rows of a stage that may be judged, with their places; in shadow they are not paired yet."""
    stages = np.array([one.stage is stage for one in routed.spans] or [False])
    keep = np.flatnonzero((rows.reason == "") & stages[rows.span])
    steps = np.array([one.step for one in routed.spans], dtype=np.int64)[rows.span[keep]]
    return keep, Judged(rows.table.take(pa.array(keep)), np.arange(len(keep)), steps, rows.arm[keep])


class Pairing:
    """Joins the two answers to a request in shadow; one whose copy has not come waits."""

    def __init__(self) -> None:
        self._waiting: tuple[Judged, Floats] | None = None

    def take(self, part: Judged, closed: Floats) -> tuple[Judged, Floats]:
        """More rows and when they closed: both rows of a request one after the other, stable first, where the later of
        them was.
        """
        table, step, arm = part.table, part.step, part.arm
        if self._waiting is not None:
            held, held_closed = self._waiting
            table = pa.concat_tables([held.table, table], promote_options="permissive")
            step, arm = np.concatenate([held.step, step]), np.concatenate([held.arm, arm])
            closed = np.concatenate([held_closed, closed])
        request = codes(table["request_id"])
        order = _pairs(request, arm)
        alone = np.flatnonzero(~np.isin(request, request[order]))
        self._waiting = _some(table, np.arange(len(alone)), step, arm, alone), closed[alone]
        return _some(table, np.repeat(np.arange(len(order) // 2), 2), step, arm, order), closed[order]


def _some(table: pa.Table, entry: Ints, step: Ints, arm: Ints, rows: Ints) -> Judged:
    return Judged(table.take(pa.array(rows)), entry, step[rows], arm[rows])


def _pairs(request: Ints, arm: Ints) -> Ints:
    """The first row of each arm of the requests that have both, ordered by the later one."""
    last = {}
    seen: dict[tuple[int, int], int] = {}
    for position, key in enumerate(zip(request.tolist(), arm.tolist(), strict=True)):
        seen.setdefault(key, position)
        last[key[0]] = position
    whole = [one for one in last if (one, STABLE_CODE) in seen and (one, CANARY_CODE) in seen]
    whole.sort(key=lambda one: max(seen[one, STABLE_CODE], seen[one, CANARY_CODE]))
    return np.array([seen[one, code] for one in whole for code in (STABLE_CODE, CANARY_CODE)], dtype=np.int64)
