"""The KPIs of exposures whose window has closed, by the formulas of `serinus.core.kpi`.

Invariant: a value depends on its own exposure and outcomes only; the order shown is the order scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.card import Kpi
from serinus.core.kpi import RankedRows, any_hit_at, hits_at, log_loss, mean_by_request, revenue_at, shown_at, top_1
from serinus.evidence.matching import Outcomes, Pairs, by_request, by_unit, column, in_time
from serinus.evidence.plan import Group, KpiPlan, columns_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Exposures with their scores (columns items and probabilities beside the exposure's own), and all outcomes."""

    exposures: pa.Table
    outcomes: Outcomes


def values(plan: KpiPlan, group: Group, chunk: Chunk) -> dict[str, Floats]:
    """The group's columns, one value an exposure."""
    found: dict[str, Floats] = {}
    rows: _Labelled | None = None
    for kpi in group.kpis:
        if kpi.formula == "return_within":
            found[kpi.name] = _returned(plan, kpi, chunk)
        elif kpi.formula in _OF_EXPOSURE:
            found[kpi.name] = _OF_EXPOSURE[kpi.formula](kpi, chunk.exposures)
        else:
            rows = rows or _labelled(plan, group.seconds, chunk)
            found |= _of_rows(kpi, rows)
    return found


@dataclass(frozen=True)
class _Labelled:
    """Rows of all exposures in the order shown, with labels and worth from the outcomes."""

    ranked: RankedRows
    probabilities: Floats
    failed: NDArray[np.bool_]


def _labelled(plan: KpiPlan, seconds: float, chunk: Chunk) -> _Labelled:
    items, scores = chunk.exposures["items_shown"].combine_chunks(), chunk.exposures["probabilities"].combine_chunks()
    offsets = items.offsets.to_numpy().astype(np.int64) - items.offsets[0].as_py()
    counts, exposures = np.diff(offsets), len(chunk.exposures)
    request = np.repeat(np.arange(exposures), counts)
    rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    labels, worth = np.zeros(len(request)), np.zeros(len(request))
    pairs = label_pairs(plan, seconds, chunk)
    row, outcome = _rows_hit(plan, pairs, items, offsets, chunk.outcomes.table)
    labels[row] = 1.0
    np.add.at(worth, row, column(chunk.outcomes.table, "value")[outcome])
    flat = np.asarray(scores.flatten().to_numpy(), dtype=np.float64)
    failed = pc.not_equal(chunk.exposures["error"], "").to_numpy(zero_copy_only=False)
    return _Labelled(RankedRows(request, rank, labels, worth, exposures), flat, failed)


def label_pairs(plan: KpiPlan, seconds: float, chunk: Chunk) -> Pairs:
    """Outcomes of the label's name with their exposures, those in time."""
    pairs = by_request(chunk.exposures, chunk.outcomes)
    if plan.by_unit:
        pairs = pairs + by_unit(chunk.exposures, chunk.outcomes, seconds)
    pairs = chunk.outcomes.called(plan.label, pairs)
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


def _of_rows(kpi: Kpi, rows: _Labelled) -> dict[str, Floats]:
    ranked, k = rows.ranked, kpi.k or len(rows.probabilities)
    if kpi.formula == "hits_at_k":
        return {kpi.name: hits_at(ranked, k)}
    if kpi.formula == "top_1":
        return {kpi.name: top_1(ranked)}
    if kpi.formula in ("any_hit_at_k", "conversion"):  # a conversion is a hit anywhere among what was shown
        return {kpi.name: any_hit_at(ranked, k)}
    if kpi.formula == "revenue":
        return {kpi.name: revenue_at(ranked, kpi.k or 10, kpi.cap or np.inf)}
    if kpi.formula == "log_loss":
        return {kpi.name: mean_by_request(ranked, log_loss(rows.probabilities, ranked.labels))}
    if kpi.formula == "ctr":
        # A page that stayed empty counts with all its places: whom a version fails may not leave the comparison.
        sums = hits_at(ranked, k), np.where(rows.failed, float(k), shown_at(ranked, k))
    else:
        sums = ranked.total(rows.probabilities), ranked.total(ranked.labels)
    return dict(zip(columns_of(kpi), sums, strict=True))


def _returned(plan: KpiPlan, kpi: Kpi, chunk: Chunk) -> Floats:
    """1 where the unit did something of the wanted name again within the window."""
    seconds = kpi.window.total_seconds()
    pairs = chunk.outcomes.called(kpi.outcome or plan.label, by_unit(chunk.exposures, chunk.outcomes, seconds))
    pairs = pairs.where(in_time(pairs, chunk.exposures, chunk.outcomes, seconds))
    found = np.zeros(len(chunk.exposures))
    found[pairs.exposure] = 1.0
    return found


def _failed(_: Kpi, exposures: pa.Table) -> Floats:
    return np.asarray(pc.not_equal(exposures["error"], "").to_numpy(zero_copy_only=False), dtype=np.float64)


def _slow(kpi: Kpi, exposures: pa.Table) -> Floats:
    return np.asarray(column(exposures, "latency_ms") > (kpi.threshold_ms or np.inf), dtype=np.float64)


def _cold(_: Kpi, exposures: pa.Table) -> Floats:
    return np.asarray(exposures["cold_start"].to_numpy(), dtype=np.float64)


def _defaulted(_: Kpi, exposures: pa.Table) -> Floats:
    return np.asarray(column(exposures, "defaulted") > 0, dtype=np.float64)


_OF_EXPOSURE = {
    "error_rate": _failed,
    "latency_slo": _slow,
    "cold_start_share": _cold,
    "defaulted_share": _defaulted,
}
