"""What a replay found: KPIs with intervals, baselines on the very same visits, latency, and what was missing.

Invariant: every figure is made from KPI rows, the recording, or the servers' own metrics, and of one revision, arm and
role. The intervals are clustered by entity, because visits of one customer go together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from serinus.core.card import Kpi, Problem
from serinus.core.intervals import Interval, quotient, rate, share
from serinus.core.kpi import HITS_AT_K
from serinus.core.kpi.ranked import RankedRows, hits_at
from serinus.core.metric import at
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.evidence.divisions import By, Division, divided
from serinus.evidence.plan import KpiPlan
from serinus.replay.progress import Sent
from serinus.replay.recording import BASELINE, Recording

NOTE = (
    "These figures are predictive, not causal: a recorded log was ranked by the running service afterwards, and nobody "
    "was ever shown these rankings."
)
Floats = NDArray[np.float64]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """An estimate with its 95 % interval over `clusters` entities and `requests` closed requests.

    `metric` is the figure of evaluation that is the same (`hits_at_10`); empty when none is.
    `revision`, `arm`, `role`, `step` and `day` are those of its `Division`; empty for what no revision answered.
    """

    name: str
    formula: str
    metric: str = ""
    estimate: float | None
    low: float | None
    high: float | None
    requests: int
    clusters: int
    revision: str = ""
    arm: str = ""
    role: str = ""
    step: str = ""
    day: str = ""


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


def kpi_figures(
    card: Problem,
    rows: Mapping[float, pa.Table],
    rollouts: Sequence[tuple[RolloutSpec, RolloutState]] = (),
    by: Collection[By] = (),
) -> tuple[Figure, ...]:
    """One figure a KPI of the card and division, from the KPI rows of each window (seconds).

    `rollouts`, in the order they were made, say which arm answered and whether anybody saw it.
    """
    groups = [group for group in KpiPlan.of(card).groups if group.seconds in rows]
    found = [
        _figure(kpi, kpi.metric(card.framing.label.name), part, division)
        for group in groups
        for division, part in divided(rows[group.seconds], rollouts, by)
        for kpi in group.kpis
    ]
    return tuple(sorted(found, key=lambda one: (one.revision, one.step, one.day, one.role, one.arm)))


def baseline_figures(recording: Recording, k: int) -> tuple[Figure, ...]:
    """Hits of every baseline among its first k, on the recorded visits."""
    rows = recording.rows
    request = rows["request"].to_numpy(dtype=np.int64)
    owner = _codes(recording.requests["entity"].tolist())
    found = []
    for column in (name for name in rows.columns if name.startswith(BASELINE)):
        labels, scores = rows["label"].to_numpy(dtype=np.float64), rows[column].to_numpy(dtype=np.float64)
        hits = hits_at(RankedRows.of(request, scores, labels, rows["value"].to_numpy(dtype=np.float64)), k)
        interval = rate(hits, np.ones_like(hits), owner)
        found.append(_told(column.removeprefix(BASELINE), HITS_AT_K.name, at(HITS_AT_K.metric, k), interval, len(hits)))
    return tuple(found)


def latency(sent: Sequence[Sent]) -> dict[str, float]:
    """p50 and p99 of what callers waited, in milliseconds."""
    times = [one.ms for one in sent if not one.fault]
    if not times:
        return {}
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99)}


def _figure(kpi: Kpi, metric: str, rows: pa.Table, division: Division) -> Figure:
    clusters = _codes(rows["entity"].to_pylist())
    sums = [np.asarray(rows[name].to_numpy()) for name in kpi.columns]
    top, bottom = sums[0], sums[1] if len(sums) > 1 else np.ones(len(rows))
    if kpi.formula.estimator == "calibration":
        found = quotient(top, bottom, clusters)
    elif kpi.formula.is_share:
        found = share(top, bottom, clusters)
    else:
        found = rate(top, bottom, clusters, event=kpi.cap or 1.0)
    figure = _told(kpi.name, kpi.formula.name, metric, found, len(rows))
    return figure.model_copy(update=asdict(division))


def _told(name: str, formula: str, metric: str, found: Interval, requests: int) -> Figure:
    low, estimate, high = (float(one) if np.isfinite(one) else None for one in (found.low, found.estimate, found.high))
    return Figure(
        name=name,
        formula=formula,
        metric=metric,
        estimate=estimate,
        low=low,
        high=high,
        requests=requests,
        clusters=found.clusters,
    )


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)
