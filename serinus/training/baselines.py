"""Rankings without a model, on the very rows a model is judged on.

Invariant: a baseline reads only model inputs of its own row, so it knows no more than the models do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serinus.core.card import Problem
from serinus.core.card.data import Baseline
from serinus.core.errors import CardError
from serinus.core.hashing import combine, text_keys, uniform
from serinus.features.inputs import Inputs
from serinus.training.dataset import Split
from serinus.training.metrics import Window, ranking_metrics

Floats = NDArray[np.float64]


def baseline_metrics(card: Problem, inputs: Inputs, split: Split) -> dict[str, dict[str, float]]:
    """Ranking metrics of each baseline of the card."""
    window = Window.of(split.rows, card)
    return {
        one.name: ranking_metrics(window, baseline_scores(one, inputs, split, card.data.seed))
        for one in card.data.baselines
    }


def baseline_scores(baseline: Baseline, inputs: Inputs, split: Split, seed: int) -> Floats:
    """A score whose order is the baseline's order. Raises `CardError` for an unknown input."""
    keys = [_column(name, baseline, inputs, split) for name in reversed(baseline.sort_by)]
    if baseline.first_if_positive is not None:
        keys.append((_column(baseline.first_if_positive, baseline, inputs, split) > 0).astype(np.float64))
    if not keys:
        return _random(split, seed)
    order = np.lexsort([*keys])
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order))
    return _tied(scores, order, keys)


def _tied(scores: Floats, order: NDArray[np.int64], keys: list[Floats]) -> Floats:
    """Rows that are equal in every key share one score, so their order stays that of the rows."""
    changed = np.zeros(len(order), dtype=bool)
    for key in keys:
        changed[1:] |= np.diff(key[order]) != 0
    scores[order] = np.cumsum(changed)
    return scores


def _random(split: Split, seed: int) -> Floats:
    ids = text_keys(split.rows["request_id"].to_numpy().astype(str))
    row = combine(ids, text_keys(split.rows["item"].to_numpy().astype(str)))
    return uniform(combine(row, np.full(len(row), seed + 1, dtype=np.uint64)))


def _column(name: str, baseline: Baseline, inputs: Inputs, split: Split) -> Floats:
    names = [one.name for one in inputs]
    if name not in names:
        raise CardError(
            f"baseline {baseline.name} sorts by {name}, which is no model input",
            hint=f"inputs: {', '.join(names)}",
        )
    return split.matrix[:, names.index(name)].astype(np.float64)
