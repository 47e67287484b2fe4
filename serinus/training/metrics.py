"""Figures of a model on one window, from its probabilities alone.

Invariant: probability metrics use every row; ranking metrics are means over requests at the card's k, by
the figures of `core.kpi.ranked`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from serinus.core.card import Kind, Problem
from serinus.core.kpi import ranked as figures
from serinus.core.metric import at, family_of
from serinus.training.results import CurvePoint

Floats = NDArray[np.float64]
CURVE_POINTS = 60
RELIABILITY_BINS = 15


@dataclass(frozen=True)
class Window:
    """Rows of one window as the metrics need them, with the card's k and its cap of the revenue KPI."""

    rows: pd.DataFrame
    ranking: bool
    k: int
    revenue_cap: float

    @classmethod
    def of(cls, rows: pd.DataFrame, card: Problem) -> Window:
        """Of a split of the card's problem."""
        wanted, label = card.requirements, card.framing.label.name
        caps = [one.cap for one in wanted.kpis if one.cap is not None and family_of(one.metric(label))[0] == "revenue"]
        return cls(rows, card.framing.kind is Kind.RANKING, wanted.k, min(caps, default=np.inf))

    @property
    def labels(self) -> Floats:
        """0 or 1, one a row."""
        return self.rows["label"].to_numpy(dtype=np.float64)

    def ranked(self, scores: Floats) -> figures.RankedRows:
        """The rows ranked by `scores` within each request."""
        return figures.RankedRows.of(
            self.rows["request"].to_numpy(), scores, self.labels, self.rows["value"].to_numpy(dtype=np.float64)
        )

    def part(self, keep: NDArray[np.bool_]) -> Window:
        """Some of the rows, requests numbered anew."""
        rows = self.rows[keep]
        request = np.unique(rows["request"].to_numpy(), return_inverse=True)[1]
        return Window(rows.assign(request=request), self.ranking, self.k, self.revenue_cap)


def per_request(window: Window, scores: Floats) -> dict[str, Floats]:
    """Ranking KPIs, one number a request; empty for kind scoring."""
    if not window.ranking:
        return {}
    ranked, k = window.ranked(scores), window.k
    return {
        at("hits", k): figures.hits_at(ranked, k),
        at("ndcg", k): figures.ndcg_at(ranked, k),
        at("revenue", k): figures.revenue_at(ranked, k, window.revenue_cap),
        "top_1": figures.top_1(ranked),
        "any_hit_at_5": figures.any_hit_at(ranked, 5),
    }


def ranking_metrics(window: Window, scores: Floats) -> dict[str, float]:
    """Means of the ranking KPIs; for kind scoring the average precision, so that any order can be compared."""
    if not window.ranking:
        return {"average_precision": float(average_precision_score(window.labels, scores))}
    return {name: float(values.mean()) for name, values in per_request(window, scores).items()}


def all_metrics(window: Window, probabilities: Floats) -> dict[str, float]:
    """Every metric of a model. Normalized entropy: log loss over the entropy of the base rate (He et al. 2014)."""
    labels = window.labels
    loss = float(figures.log_loss(probabilities, labels).mean())
    base = labels.mean()
    entropy = float(figures.log_loss(np.array([base]), np.array([1.0]))[0] * base)
    entropy += float(figures.log_loss(np.array([base]), np.array([0.0]))[0] * (1 - base))
    return {
        "auc": float(roc_auc_score(labels, probabilities)),
        "average_precision": float(average_precision_score(labels, probabilities)),
        "log_loss": loss,
        "normalized_entropy": loss / entropy,
        "calibration_ratio": float(probabilities.sum() / labels.sum()),
        "ece": expected_calibration_error(probabilities, labels),
        **ranking_metrics(window, probabilities),
    }


def reliability(probabilities: Floats, labels: Floats) -> tuple[CurvePoint, ...]:
    """Mean probability against observed share in bins of equal size."""
    bins = np.array_split(np.argsort(probabilities, kind="stable"), RELIABILITY_BINS)
    return tuple(
        CurvePoint(x=float(probabilities[rows].mean()), y=float(labels[rows].mean()), rows=len(rows))
        for rows in bins
        if len(rows)
    )


def expected_calibration_error(probabilities: Floats, labels: Floats) -> float:
    """Mean |probability - observed share| over bins of equal size, weighted by rows (Naeini et al. 2015)."""
    points = reliability(probabilities, labels)
    return sum(abs(point.x - point.y) * point.rows for point in points) / len(labels)


def precision_recall(probabilities: Floats, labels: Floats) -> tuple[CurvePoint, ...]:
    """The precision-recall curve, thinned to evenly spaced recalls."""
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    wanted = np.linspace(0.0, 1.0, CURVE_POINTS)
    position = np.searchsorted(-recall, -wanted, side="right") - 1
    return tuple(CurvePoint(x=float(x), y=float(precision[i])) for x, i in zip(wanted, position, strict=True))


def calibration_by_month(window: Window, probabilities: Floats) -> dict[str, float]:
    """Sum of probabilities over positives, month by month."""
    frame = pd.DataFrame({"month": window.rows["month"].to_numpy(), "p": probabilities, "y": window.labels})
    sums = frame.groupby("month", sort=True)[["p", "y"]].sum()
    return {str(month): float(row["p"] / row["y"]) for month, row in sums.iterrows() if row["y"] > 0}
