"""What evaluation measured, as one serializable value: read by gates, selection, registry and report.

Invariant: every figure is of the named window, on the same requests for every model and baseline.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CurvePoint(_Result):
    """A point of a curve: `x` and `y` in [0, 1]; `rows` behind it (calibration curves), else 0."""

    x: float
    y: float
    rows: int = 0


class Latency(_Result):
    """Scoring of one request's matrix on one thread, in milliseconds; the class is an upper bound from the card."""

    p50_ms: float
    p99_ms: float
    class_ms: float


class Slice(_Result):
    """One metric-carrying part of the requests, for example `new_entity = yes`."""

    by: str
    value: str
    requests: int
    metrics: dict[str, float]


class ModelResult(_Result):
    """One model on one window. Metric names: auc, average_precision, normalized_entropy, log_loss, calibration_ratio,
    ece; for rankings also hits, ndcg and revenue at the card's k (hits_at_10), top_1, any_hit_at_5."""

    name: str
    kind: str
    metrics: dict[str, float]
    validation_metrics: dict[str, float]
    calibration_by_month: dict[str, float]
    latency: Latency
    size_bytes: int
    fit_seconds: float
    bundle_hash: str
    precision_recall: tuple[CurvePoint, ...]
    reliability: tuple[CurvePoint, ...]
    importance: tuple[tuple[str, float], ...]
    slices: tuple[Slice, ...]


class Comparison(_Result):
    """Difference of a metric between two models on the same requests, with a bootstrap interval over entities."""

    metric: str
    candidate: str
    against: str
    difference: float
    low: float
    high: float
    reference: float
    entities: int


class Evaluation(_Result):
    """All candidates and baselines on the test window, and the candidate the card's rule picked."""

    problem: str
    window: str
    requests: int
    rows: int
    positives: int
    base_rate: float
    models: tuple[ModelResult, ...]
    baselines: dict[str, dict[str, float]]
    chosen: str
    chosen_because: str
    comparisons: tuple[Comparison, ...] = ()
    champion_version: int | None = None
    champion_error: str = ""

    def model(self, name: str) -> ModelResult:
        """The result of a candidate by name."""
        return next(result for result in self.models if result.name == name)
