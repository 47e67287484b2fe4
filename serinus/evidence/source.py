"""The evidence of a rollout, read from a service's KPI rows.

Invariant: rows are taken in order of closing: by the reduction that closed them, then by the time their window ended.
What a reduction has written never changes, and a row waits until no change of the route can come near it any more, with
all that closed after it; so looks that were read once are read the same again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.rollout.ports import RolloutEvidence
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase, Stage, StepKind
from serinus.evidence.kpi_files import GENERATION
from serinus.evidence.looks import Window, looks
from serinus.evidence.matching import column, is_in
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.rollout_rows import Routed, Span, classify, first_seen

Ints = NDArray[np.int64]


class KpiEvidence:
    """`EvidenceSource` on one service's KPI rows; keeps the rows of the revisions asked about.

    `settle`: seconds around a change of the route in which requests are not judged; 0 where none is under way then.
    `now`: the clock (epoch s) of whoever changes the route.
    """

    def __init__(
        self,
        reducer: KpiReducer,
        plan: KpiPlan,
        covariates: Sequence[str],
        *,
        now: Callable[[], float],
        settle: float = 2.0,
    ) -> None:
        self._reducer, self._plan, self._covariates = reducer, plan, tuple(covariates)
        self._now, self._settle = now, settle
        self._kept: dict[tuple[str, str], tuple[int, pa.Table]] = {}

    def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
        """See `EvidenceSource`."""
        routed = Routed(spec.stable.name, spec.candidate.name, spec.seed, spans(state), self._settle, gaps(state))
        table = self._rows(routed)
        closed = _closing_order(table)
        settled = _settled(table, closed, self._now() - self._settle)
        table, closed = table.take(pa.array(settled)), closed[settled]
        windows = [self._window(routed, table, closed, group.seconds) for group in self._plan.groups]
        by_kpi = {kpi.name: one for group, one in zip(self._plan.groups, windows, strict=True) for kpi in group.kpis}
        found = looks(routed, spec.kpis, by_kpi, self._covariates)
        soonest = windows[0]
        before = np.searchsorted(np.array([one.closed for one in found]), soonest.closed).astype(np.int64)
        return RolloutEvidence(
            tuple(one.look for one in found),
            first_seen(routed, soonest.rows, before),
            soonest.rows.counts(),
            len(soonest.rows.table),
        )

    def _window(self, routed: Routed, table: pa.Table, closed: Ints, seconds: float) -> Window:
        mine = np.flatnonzero(column(table, "window") == seconds)
        mine = mine[np.lexsort([_ids(table.take(pa.array(mine))), closed[mine]])]
        part = table.take(pa.array(mine))
        rows = classify(routed, part)
        place = pc.index_in(rows.table["id"], value_set=part["id"]).to_numpy()
        return Window(rows, closed[mine][place].astype(np.float64))

    def _rows(self, routed: Routed) -> pa.Table:
        """Of both revisions, with the reduction each was closed by; those of earlier calls are not read again."""
        both = (routed.stable, routed.candidate)
        before, kept = self._kept.get(both, (0, None))
        fresh = self._reducer.closed_after(before)
        if len(fresh):
            before = int(fresh[GENERATION.name][-1].as_py())
        fresh = fresh.filter(pa.array(is_in(fresh["revision"], pa.array(both))))
        kept = fresh if kept is None else pa.concat_tables([kept, fresh], promote_options="permissive")
        self._kept[both] = before, kept
        return kept


def spans(state: RolloutState) -> tuple[Span, ...]:
    """The steps whose route came into force, from then on, and the hold-back after a promotion."""
    found, weighted = [], False
    for number, one in enumerate(state.steps):
        weighted |= one.kind is StepKind.WEIGHT
        stage = Stage.WEIGHTS if weighted else Stage.SHADOW
        if one.in_force_at is not None:
            ends = math.inf if one.left_at is None else one.left_at
            found.append(Span(number, stage, one.weight, one.in_force_at, ends))
    if state.phase is Phase.PROMOTED and state.in_force_at is not None and state.route is not None:
        found.append(Span(len(state.steps), Stage.WEIGHTS, state.route.weight, state.in_force_at))
    return tuple(found)


def gaps(state: RolloutState) -> tuple[tuple[float, float], ...]:
    """From each decision to the time its route was in force (epoch s): nobody knows who was sent where."""
    found = []
    for one in state.steps:
        over = one.in_force_at if one.in_force_at is not None else one.left_at
        found.append((one.entered_at, math.inf if over is None else over))
    if state.phase is Phase.PROMOTED and state.ended_at is not None:
        found.append((state.ended_at, math.inf if state.in_force_at is None else state.in_force_at))
    return tuple(found)


def _closing_order(table: pa.Table) -> Ints:
    """A number for each row that rises with (reduction, end of its window), equal for equal ones."""
    generation, due = table[GENERATION.name].to_numpy(), column(table, "as_of") + column(table, "window")
    order = np.lexsort([due, generation])
    rises = np.ones(len(table), dtype=np.int64)
    rises[1:] = (np.diff(generation[order]) > 0) | (np.diff(due[order]) > 0)
    found = np.empty(len(table), dtype=np.int64)
    found[order] = np.cumsum(rises)
    return found


def _settled(table: pa.Table, closed: Ints, until: float) -> Ints:
    """Rows that closed before any that was answered after `until` (epoch s)."""
    first = closed[column(table, "at") > until].min(initial=len(table) + 1)
    return np.flatnonzero(closed < first)


def _ids(table: pa.Table) -> NDArray[np.str_]:
    return np.array(table["id"].to_pylist(), dtype=str)
