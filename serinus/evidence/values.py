"""The KPIs of exposures whose window has closed: tables become the numpy columns that formulas take.

Invariant: a value depends on its own exposure and outcomes only; the order shown is the order scored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.kpi import Happened, Rows, Shown
from serinus.core.kpi.ranked import RankedRows
from serinus.evidence.matching import Outcomes, Pairs, by_request, by_unit, column, in_time
from serinus.evidence.plan import Group, KpiPlan

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Exposures with their scores (columns items and probabilities beside the exposure's own), and all outcomes."""

    exposures: pa.Table
    outcomes: Outcomes


def values(plan: KpiPlan, group: Group, chunk: Chunk) -> dict[str, Floats]:
    """The group's columns, one value an exposure."""
    found: dict[str, Floats] = {}
    shown: dict[str, Shown] = {}
    answers = _answers(chunk.exposures)
    for kpi in group.kpis:
        name, rows = kpi.outcome or plan.label, answers
        if kpi.formula.needs_scores:
            if name not in shown:
                shown[name] = _shown(plan, name, group.seconds, chunk)
            rows = replace(rows, shown=shown[name])
        if kpi.formula.needs_outcomes:
            named = kpi.formula.needs_outcomes == "all"
            rows = replace(rows, happened=_happened(name, group.seconds, chunk, named=named))
        found |= dict(zip(kpi.columns, kpi.formula.of(rows, kpi), strict=True))
    return found


def _answers(exposures: pa.Table) -> Rows:
    return Rows(
        failed=np.asarray(pc.not_equal(exposures["error"], "").to_numpy(zero_copy_only=False), dtype=np.bool_),
        latency_ms=column(exposures, "latency_ms"),
        cold_start=np.asarray(exposures["cold_start"].to_numpy(), dtype=np.bool_),
        defaulted=column(exposures, "defaulted"),
    )


def _happened(name: str, seconds: float, chunk: Chunk, *, named: bool) -> Happened:
    """Outcomes of that name, those in time; with `named` also such as name their request."""
    pairs = by_unit(chunk.exposures, chunk.outcomes, seconds)
    if named:
        pairs = by_request(chunk.exposures, chunk.outcomes) + pairs
    pairs = chunk.outcomes.called(name, pairs)
    pairs = pairs.where(in_time(pairs, chunk.exposures, chunk.outcomes, seconds))
    return Happened(pairs.exposure, column(chunk.outcomes.table, "value")[pairs.outcome])


def _shown(plan: KpiPlan, name: str, seconds: float, chunk: Chunk) -> Shown:
    """Rows of all exposures in the order shown, with labels and worth from the outcomes of that name."""
    items, scores = chunk.exposures["items_shown"].combine_chunks(), chunk.exposures["probabilities"].combine_chunks()
    offsets = items.offsets.to_numpy().astype(np.int64) - items.offsets[0].as_py()
    counts, exposures = np.diff(offsets), len(chunk.exposures)
    request = np.repeat(np.arange(exposures), counts)
    rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    labels, worth = np.zeros(len(request)), np.zeros(len(request))
    row, outcome = _rows_hit(plan, _pairs(plan, name, seconds, chunk), items, offsets, chunk.outcomes.table)
    labels[row] = 1.0
    np.add.at(worth, row, column(chunk.outcomes.table, "value")[outcome])
    flat = np.asarray(scores.flatten().to_numpy(), dtype=np.float64)
    return Shown(RankedRows(request, rank, labels, worth, exposures), flat)


def _pairs(plan: KpiPlan, name: str, seconds: float, chunk: Chunk) -> Pairs:
    """Outcomes of that name with their exposures, by the card's attribution, those in time."""
    pairs = by_request(chunk.exposures, chunk.outcomes)
    if plan.by_unit:
        pairs = pairs + by_unit(chunk.exposures, chunk.outcomes, seconds)
    pairs = chunk.outcomes.called(name, pairs)
    return pairs.where(in_time(pairs, chunk.exposures, chunk.outcomes, seconds))


def _rows_hit(
    plan: KpiPlan, pairs: Pairs, items: pa.ListArray, offsets: NDArray[np.int64], outcomes: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and outcome of each pair whose item was shown; kind scoring has one row, which any outcome hits."""
    counts = np.diff(offsets)
    pairs = pairs.where(counts[pairs.exposure] > 0)
    if not plan.ranking:
        return offsets[pairs.exposure], pairs.outcome
    counts = counts[pairs.exposure]
    pair = np.repeat(np.arange(len(counts)), counts)  # a row an item shown, pair after pair
    shown = items.take(pa.array(pairs.exposure)).flatten()
    wanted = outcomes["item"].take(pa.array(pairs.outcome[pair])).combine_chunks()
    hit = np.flatnonzero(pc.equal(shown, wanted).to_numpy(zero_copy_only=False))
    which, first = np.unique(pair[hit], return_index=True)
    place = hit[first] - (np.cumsum(counts) - counts)[which]
    return offsets[pairs.exposure[which]] + place, pairs.outcome[which]
