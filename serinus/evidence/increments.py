"""The evidence of a rollout in increments: what has closed since it was asked last, folded into what is known.

Invariant: a KPI row is taken once, in order of closing, and asking anew from the files gives the same increments; so a
restart, or another process, changes nothing but the time the next answer takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.card import Kpi
from serinus.core.rollout.evidence import SampleRatio
from serinus.core.rollout.ports import FirstSeen
from serinus.core.stats.moments import Cell
from serinus.core.stats.reading import Look
from serinus.core.words import Stage
from serinus.evidence.kpi_files import GENERATION
from serinus.evidence.looks import KpiLooks, Placed, Window
from serinus.evidence.matching import column, is_in
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.rollout_rows import Pairing, Routed, classify, judged
from serinus.evidence.shares import Shares
from serinus.evidence.units import Codes

Ints = NDArray[np.int64]
# Questions whose position is kept: a service has one rollout that lives and one whose hold-back is watched.
MOST_KEPT = 4


class KpiRows(Protocol):
    """Where KPI rows come from."""

    def closed_after(self, generation: int) -> pa.Table:
        """Those of the reductions after one, in order, with a column `generation`."""


@dataclass(frozen=True)
class Question:
    """What is to be judged: the arms and how traffic was divided so far, by which KPIs."""

    routed: Routed
    kpis: tuple[Kpi, ...]


@dataclass(frozen=True)
class Increment:
    """What has closed. All but `looks` is of the rollout so far, so an answer that was lost is made good by the next.

    `looks`: those after the one asked for, in order. `units`: those that were seen, by the step and arm of their first
    request under weights. `unjudged`: requests by reason. `received`: rows of both revisions by the route stamped on
    them. `closed`: exposures. `last`: the number of the last look; `at` (epoch s): of the newest request counted.
    """

    looks: tuple[Look, ...]
    units: Mapping[Cell, int]
    ratio: SampleRatio
    unjudged: Mapping[str, int]
    received: Mapping[str, int]
    closed: int
    last: int
    at: float


class Increments:
    """Of one service's KPI rows; keeps the reading position of every question, and the looks not yet acknowledged.

    `now`: the clock (epoch s) of whoever changes the route.
    """

    def __init__(self, rows: KpiRows, plan: KpiPlan, covariates: Sequence[str], now: Callable[[], float]) -> None:
        self._rows, self._plan, self._covariates, self._now = rows, plan, tuple(covariates), now
        self._folds: dict[tuple[str, str, int, tuple[Kpi, ...]], Fold] = {}

    def read(self, question: Question, after: int) -> Increment:
        """What follows look `after`, which acknowledges those up to it."""
        return self.fold(question, after).increment(after)

    def fold(self, question: Question, after: int) -> Fold:
        """All that is known for a question, as of now."""
        routed, now = question.routed, self._now()
        key = (routed.stable, routed.candidate, routed.seed, question.kpis)
        kept = self._folds.get(key)
        if kept is None or after < kept.acknowledged or not kept.continues(routed):
            kept = Fold(self._plan, question.kpis, self._covariates)
        self._folds = {key: kept, **{one: fold for one, fold in self._folds.items() if one != key}}
        self._folds = dict(list(self._folds.items())[:MOST_KEPT])
        kept.take(routed, self._rows.closed_after(kept.generation), now)
        return kept


class Fold:
    """What the rows of one question have come to."""

    def __init__(self, plan: KpiPlan, kpis: Sequence[Kpi], covariates: Sequence[str]) -> None:
        self._plan = plan
        ordered = sorted(kpis, key=lambda kpi: kpi.role != "goal")
        self._kpis = {
            kpi.name: {stage: KpiLooks(kpi, stage, position, covariates) for stage in Stage}
            for position, kpi in enumerate(ordered)
        }
        self._pairing = {group.seconds: Pairing() for group in plan.groups}
        self._units, self._shares = Codes(), Shares()
        self._held: pa.Table | None = None
        self._routed: Routed | None = None
        self._until, self._rank = -np.inf, 0
        self.looks: list[Look] = []
        self.generation = self.acknowledged = self.closed = self._last = 0
        self._unjudged, self._received, self._at = Counter[str](), Counter[str](), -np.inf

    def continues(self, routed: Routed) -> bool:
        """Whether what was taken so far would be taken the same way now."""
        return self._routed is None or _known(routed, self._until) == _known(self._routed, self._until)

    def take(self, routed: Routed, fresh: pa.Table, now: float) -> None:
        """More rows, and those held back before that no change of the route can come near any more."""
        if len(fresh):
            self.generation = int(fresh[GENERATION.name][-1].as_py())
        fresh = fresh.filter(pa.array(is_in(fresh["revision"], pa.array([routed.stable, routed.candidate]))))
        table = fresh if self._held is None else pa.concat_tables([self._held, fresh], promote_options="permissive")
        closed = _closing_order(table)
        settled = _settled(table, closed, now - routed.settle)
        self._held = table.filter(pa.array(~settled))
        self._routed, self._until = routed, now
        self._fold(routed, table.filter(pa.array(settled)), closed[settled] + self._rank)
        self._rank += int(closed[settled].max(initial=0))

    @property
    def units(self) -> list[FirstSeen]:
        """Units in order of their first request under weights."""
        return self._shares.units

    @property
    def unjudged(self) -> dict[str, int]:
        """Requests that are not judged, by reason."""
        return dict(sorted(self._unjudged.items()))

    def increment(self, after: int) -> Increment:
        """What follows look `after`; those up to it are forgotten."""
        self.looks, self.acknowledged = [one for one in self.looks if one.sequence > after], after
        return Increment(
            tuple(self.looks),
            self._shares.by_cell(),
            self._shares.ratio,
            self.unjudged,
            dict(sorted(self._received.items())),
            self.closed,
            self._last,
            self._at,
        )

    def _fold(self, routed: Routed, table: pa.Table, closed: Ints) -> None:
        placed, soonest = list[Placed](), None
        for group in self._plan.groups:
            mine = np.flatnonzero(column(table, "window") == group.seconds)
            part = table.take(pa.array(mine))
            if soonest is None:
                self._received.update(part["route"].to_pylist())
            window = _window(routed, part, closed[mine])
            soonest = soonest or window
            placed += self._looks(routed, group, window)
        placed.sort(key=lambda one: (one.closed, one.position, one.look.number))
        self.looks += [replace(one.look, sequence=self._last + place) for place, one in enumerate(placed, 1)]
        if soonest is not None:
            self._count(routed, soonest, placed)
        self._last += len(placed)

    def _count(self, routed: Routed, window: Window, placed: Sequence[Placed]) -> None:
        rows = window.rows
        self._unjudged.update(rows.counts())
        self.closed += len(rows.table)
        self._at = max(self._at, column(rows.table, "at").max(initial=-np.inf))
        before = self._last + np.searchsorted([one.closed for one in placed], window.closed)
        self._shares.take(routed, rows, self._units.of(rows.table["unit"]), before.astype(np.int64))

    def _looks(self, routed: Routed, group: Group, window: Window) -> list[Placed]:
        found = []
        for stage in Stage:
            keep, part = judged(routed, window.rows, stage)
            closed = window.closed[keep]
            if stage is Stage.SHADOW:
                part, closed = self._pairing[group.seconds].take(part, closed)
            unit = self._units.of(part.table["unit"])
            for kpi in group.kpis:
                if kpi.name in self._kpis:
                    found += self._kpis[kpi.name][stage].take(part, unit, np.maximum.accumulate(closed))
        return found


def _window(routed: Routed, part: pa.Table, closed: Ints) -> Window:
    order = np.lexsort([np.array(part["id"].to_pylist(), dtype=str), closed])
    part = part.take(pa.array(order))
    rows = classify(routed, part)
    place = pc.index_in(rows.table["id"], value_set=part["id"]).to_numpy()
    return Window(rows, closed[order][place].astype(np.float64))


def _known(routed: Routed, now: float) -> Routed:
    """As it was known at a time (epoch s)."""
    spans = tuple(replace(one, ends=min(one.ends, now)) for one in routed.spans if one.begins < now)
    gaps = tuple((begins, min(ends, now)) for begins, ends in routed.gaps if begins < now)
    return replace(routed, spans=spans, gaps=gaps)


def _closing_order(table: pa.Table) -> Ints:
    """A number for each row that rises with (reduction, end of its window), equal for equal ones; from 1."""
    generation, due = table[GENERATION.name].to_numpy(), column(table, "as_of") + column(table, "window")
    order = np.lexsort([due, generation])
    rises = np.ones(len(table), dtype=np.int64)
    rises[1:] = (np.diff(generation[order]) > 0) | (np.diff(due[order]) > 0)
    found = np.empty(len(table), dtype=np.int64)
    found[order] = np.cumsum(rises)
    return found


def _settled(table: pa.Table, closed: Ints, until: float) -> NDArray[np.bool_]:
    """Rows that closed before any that was answered after `until` (epoch s)."""
    first = closed[column(table, "at") > until].min(initial=len(table) + 1)
    return np.asarray(closed < first)
