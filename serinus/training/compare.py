"""Two models on the same requests: the difference of a metric, with an interval that respects who asked.

Invariant: entities are drawn, never requests, because requests of one entity are alike; both models are judged on the
same draw. Percentile bootstrap (Efron 1979) of the mean difference a request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serinus.core.kpi.ranked import log_loss, mean_by_request
from serinus.core.metric import metrics_at
from serinus.training.metrics import Window, per_request
from serinus.training.results import Comparison

Floats = NDArray[np.float64]
DRAWS = 1_000
LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """A model's probabilities on the rows of a window."""

    name: str
    probabilities: Floats


def compare(window: Window, metric: str, candidate: Scored, against: Scored, *, seed: int) -> Comparison:
    """Difference candidate - against of `metric`, with a two-sided 95 % interval."""
    ours, theirs = (_values(window, metric, one.probabilities) for one in (candidate, against))
    first = window.rows.drop_duplicates("request")["entity"].to_numpy()
    _, entity = np.unique(first.astype(str), return_inverse=True)
    low, high = _interval(ours - theirs, entity, seed)
    return Comparison(
        metric=metric,
        candidate=candidate.name,
        against=against.name,
        difference=float((ours - theirs).mean()),
        low=low,
        high=high,
        reference=float(theirs.mean()),
        entities=int(entity.max()) + 1,
    )


def _values(window: Window, metric: str, probabilities: Floats) -> Floats:
    """One number a request; metrics that are no mean over requests are compared by their log loss."""
    values = per_request(window, probabilities)
    if metric in values:
        return values[metric]
    loss = log_loss(probabilities, window.labels)
    return mean_by_request(window.ranked(probabilities), loss)


def comparable(window: Window, metric: str) -> str:
    """The metric that `compare` really compares: itself, or log_loss."""
    known = metrics_at(window.k)
    return metric if window.ranking and metric in known and known[metric].ranking_only else "log_loss"


def _interval(difference: Floats, entity: NDArray[np.int64], seed: int) -> tuple[float, float]:
    sums = np.bincount(entity, weights=difference)
    counts = np.bincount(entity).astype(np.float64)
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        times = rng.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)))
        means[draw] = (times @ sums) / (times @ counts)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
