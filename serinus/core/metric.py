"""The names of the figures that evaluation measures, with what a card may ask of each.

A ranking is measured at the card's k, which is part of the name: family `hits` at 10 is `hits_at_10`. `any_hit_at_5` is
a metric of its own, whatever the k: whether there is anything at all at the top of the page.

Invariant: a metric that a gate or the selection names is measured for every model of that kind of problem, and, where
baselines are compared, for every order of rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`higher` is better, or lower; `selects`: a card may pick its candidate by it; `of_orders`: an order alone has
    it, so a baseline does.
    """

    higher: bool
    selects: bool = False
    ranking_only: bool = False
    of_orders: bool = False


_PLAIN = {
    "auc": Metric(True, selects=True),
    "average_precision": Metric(True, selects=True),
    "normalized_entropy": Metric(False, selects=True),
    "log_loss": Metric(False),
    "ece": Metric(False),
}
_AT_K = {name: Metric(True, selects=True, ranking_only=True, of_orders=True) for name in ("hits", "ndcg", "revenue")}
_RANKING = {name: Metric(True, ranking_only=True, of_orders=True) for name in ("top_1", "any_hit_at_5")}
_NAME = re.compile(r"(?P<family>[a-z_]+)_at_(?P<k>[1-9]\d*)")


def at(family: str, k: int) -> str:
    """The name of a family's metric at k."""
    return f"{family}_at_{k}"


def metrics_at(k: int) -> dict[str, Metric]:
    """All that is measured of a ranking whose card has that k."""
    return _PLAIN | {at(family, k): one for family, one in _AT_K.items()} | _RANKING


def metric_of(name: str) -> Metric:
    """What is known of a metric, at whatever k. Raises `KeyError` for a name that is none."""
    found = _NAME.fullmatch(name)
    return metrics_at(int(found["k"]) if found else 1)[name]


def of_models(*, ranking: bool, k: int) -> tuple[str, ...]:
    """What is measured for every model."""
    return tuple(name for name, one in metrics_at(k).items() if ranking or not one.ranking_only)


def of_baselines(*, ranking: bool, k: int) -> tuple[str, ...]:
    """What is measured for a baseline, which is an order without probabilities."""
    return tuple(name for name, one in metrics_at(k).items() if one.of_orders) if ranking else ("average_precision",)


def family_of(name: str) -> tuple[str, int | None]:
    """Family and k of a metric (`hits_at_10`: hits, 10); a metric without a k is a family of its own."""
    found = _NAME.fullmatch(name)
    return (found["family"], int(found["k"])) if found else (name, None)


def of_family(family: str, names: Iterable[str]) -> str:
    """The metric of that family among the names; empty when there is none."""
    return next((name for name in names if family_of(name)[0] == family), "")
