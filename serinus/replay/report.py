"""What a replay found: KPIs with intervals, baselines on the very same visits, latency, and what was missing.

Invariant: every figure is made from KPI rows, the recording, or the servers' own metrics. The intervals are clustered
by entity, because visits of one customer go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from serinus.core.card import Kpi, Problem
from serinus.core.kpi import Interval, RankedRows, clustered_ratio, hits_at
from serinus.evidence.plan import OBSERVED, PREDICTED, KpiPlan
from serinus.replay.progress import Sent
from serinus.replay.recording import BASELINE, Recording

HITS = 10
NOTE = (
    "These figures are predictive, not causal: a recorded log was ranked by the running service afterwards, and nobody "
    "was ever shown these rankings."
)
Floats = NDArray[np.float64]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """An estimate with its 95 % interval over `clusters` entities and `requests` closed requests."""

    name: str
    formula: str
    estimate: float | None
    low: float | None
    high: float | None
    requests: int
    clusters: int


class Stage(_Part):
    """Mean milliseconds of a stage of the data plane, over the requests of the replay."""

    name: str
    mean_ms: float


class ReplayResult(_Part):
    """The report of a replay. `missing` is the share of ids without a usable row, by view; `example` a request id."""

    name: str
    visits: int
    passes: int
    sent: int
    failed: int
    seconds: float
    latency_ms: dict[str, float]
    stages: tuple[Stage, ...] = ()
    missing: dict[str, float] = {}
    kpis: tuple[Figure, ...] = ()
    baselines: tuple[Figure, ...] = ()
    counters: dict[str, int] = {}
    example: str = ""
    note: str = NOTE


def kpi_figures(card: Problem, rows: Mapping[float, pa.Table]) -> tuple[Figure, ...]:
    """One figure a KPI of the card, from the KPI rows of each window (seconds)."""
    plan = KpiPlan.of(card)
    return tuple(
        _figure(kpi, rows[group.seconds]) for group in plan.groups for kpi in group.kpis if group.seconds in rows
    )


def baseline_figures(recording: Recording) -> tuple[Figure, ...]:
    """Hits of every baseline among its first ten, on the recorded visits."""
    rows = recording.rows
    request = rows["request"].to_numpy(dtype=np.int64)
    owner = _codes(recording.requests["entity"].tolist())
    found = []
    for column in (name for name in rows.columns if name.startswith(BASELINE)):
        labels, scores = rows["label"].to_numpy(dtype=np.float64), rows[column].to_numpy(dtype=np.float64)
        hits = hits_at(RankedRows.of(request, scores, labels, rows["value"].to_numpy(dtype=np.float64)), HITS)
        interval = clustered_ratio(hits, np.ones_like(hits), owner)
        found.append(_told(column.removeprefix(BASELINE), "hits_at_k", interval, len(hits)))
    return tuple(found)


def latency(sent: Sequence[Sent]) -> dict[str, float]:
    """p50 and p99 of what callers waited, in milliseconds."""
    times = [one.ms for one in sent if not one.fault]
    if not times:
        return {}
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99)}


def _figure(kpi: Kpi, rows: pa.Table) -> Figure:
    clusters = _codes(rows["entity"].to_pylist())
    if kpi.formula == "calibration":
        top, bottom = (np.asarray(rows[kpi.name + part].to_numpy()) for part in (PREDICTED, OBSERVED))
    else:
        top, bottom = np.asarray(rows[kpi.name].to_numpy()), np.ones(len(rows))
    return _told(kpi.name, kpi.formula, clustered_ratio(top, bottom, clusters), len(rows))


def _told(name: str, formula: str, found: Interval, requests: int) -> Figure:
    low, estimate, high = (None if np.isnan(one) else float(one) for one in (found.low, found.estimate, found.high))
    return Figure(
        name=name,
        formula=formula,
        estimate=estimate,
        low=low,
        high=high,
        requests=requests,
        clusters=found.clusters,
    )


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)
