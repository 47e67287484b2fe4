"""Figures of ranked requests, written once for the offline evaluation and for live requests.

Invariant: each function takes rows grouped by request and gives one number a request; a live request is the case of one
group. Ties of scores keep the order of the rows, so a rank is always defined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_LEAST = 1e-15


@dataclass(frozen=True)
class RankedRows:
    """Rows of many requests with their rank (0 = shown first). `request` rises from 0 without gaps."""

    request: Ints
    rank: Ints
    labels: Floats
    values: Floats
    requests: int

    @classmethod
    def of(cls, request: Ints, scores: Floats, labels: Floats, values: Floats) -> RankedRows:
        """Ranks rows within their request by falling score. `request` must be sorted."""
        order = np.lexsort((-scores, request))
        counts = np.bincount(request) if len(request) else np.zeros(0, np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        rank = np.empty(len(request), dtype=np.int64)
        rank[order] = np.arange(len(request)) - first[request[order]]
        return cls(request, rank, labels, values, len(counts))

    def total(self, amounts: Floats) -> Floats:
        """Sum of `amounts` over the rows of each request."""
        return np.bincount(self.request, weights=amounts, minlength=self.requests).astype(np.float64)


def hits_at(rows: RankedRows, k: int) -> Floats:
    """Positives among the first k."""
    return rows.total(rows.labels * (rows.rank < k))


def shown_at(rows: RankedRows, k: int) -> Floats:
    """Items among the first k: the impressions of a page with k places."""
    return rows.total((rows.rank < k).astype(np.float64))


def top_1(rows: RankedRows) -> Floats:
    """1 when the first item is a positive."""
    return hits_at(rows, 1)


def any_hit_at(rows: RankedRows, k: int) -> Floats:
    """1 when a positive is among the first k."""
    return np.minimum(hits_at(rows, k), 1.0)


def revenue_at(rows: RankedRows, k: int, cap: float) -> Floats:
    """What the positives among the first k were worth, at most `cap` a request: one huge order must not decide."""
    return np.minimum(rows.total(rows.values * rows.labels * (rows.rank < k)), cap)


def ndcg_at(rows: RankedRows, k: int) -> Floats:
    """Discounted gain of the first k over the best possible one (Järvelin and Kekäläinen 2002), gains 0 or 1.

    0 for a request without positives.
    """
    discount = np.where(rows.rank < k, 1.0 / np.log2(rows.rank + 2.0), 0.0)
    gained = rows.total(rows.labels * discount)
    positives = rows.total(rows.labels).astype(np.int64)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])[np.minimum(positives, k)]
    return np.asarray(np.divide(gained, ideal, out=np.zeros_like(gained), where=ideal > 0))


def log_loss(probabilities: Floats, labels: Floats) -> Floats:
    """Binary cross-entropy of each row, in nats."""
    p = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.asarray(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)), dtype=np.float64)


def mean_by_request(rows: RankedRows, amounts: Floats) -> Floats:
    """Mean of `amounts` over the rows of each request."""
    counts = np.maximum(rows.total(np.ones(len(amounts))), 1.0)
    return np.asarray(rows.total(amounts) / counts, dtype=np.float64)
