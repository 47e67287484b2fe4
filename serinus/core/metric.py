"""The names of the figures that evaluation measures, with what a card may ask of each.

Invariant: a metric that a gate or the selection names is measured for every model of that kind of problem, and, where
baselines are compared, for every order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`higher` is better, or lower; `of_orders`: an order alone has it, so a baseline does."""

    higher: bool
    ranking_only: bool = False
    of_orders: bool = False


METRICS = {
    "auc": Metric(True),
    "average_precision": Metric(True),
    "normalized_entropy": Metric(False),
    "log_loss": Metric(False),
    "ece": Metric(False),
    "hits_at_10": Metric(True, True, True),
    "ndcg_at_10": Metric(True, True, True),
    "revenue_at_10": Metric(True, True, True),
    "top_1": Metric(True, True, True),
    "any_hit_at_5": Metric(True, True, True),
}


def of_models(*, ranking: bool) -> tuple[str, ...]:
    """What is measured for every model."""
    return tuple(name for name, one in METRICS.items() if ranking or not one.ranking_only)


def of_baselines(*, ranking: bool) -> tuple[str, ...]:
    """What is measured for a baseline, which is an order without probabilities."""
    return tuple(name for name, one in METRICS.items() if one.of_orders) if ranking else ("average_precision",)
