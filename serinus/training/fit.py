"""Fits the three kinds of candidates and hands each on as a scorer of plain numbers.

Invariant: the same matrix, labels, parameters and seed give the same scorer on one machine: one thread, fixed seeds,
rows in the order of the training set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from serinus.core.card import Candidate
from serinus.core.errors import CardError
from serinus.features.transforms import Matrix
from serinus.model.scorers import GbdtScorer, LinearScorer, NeuralScorer, Scorer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What a model is fitted on: matrix (rows, inputs), labels (rows,), and the seed of the fit."""

    matrix: Matrix
    labels: Floats
    seed: int


def fit(candidate: Candidate, sample: Sample) -> Scorer:
    """Fits a candidate. Raises `CardError` when its library refuses the parameters of the card."""
    try:
        with threadpool_limits(1):
            return _FIT[candidate.kind](sample, dict(candidate.params))
    except (TypeError, ValueError) as fault:
        raise CardError(
            f"candidate {candidate.name} cannot be fitted with the parameters of the card",
            cause=str(fault),
            hint=f"data.candidates[].params are handed to the library that fits kind {candidate.kind}",
        ) from fault


def _standardized(rows: Matrix) -> tuple[Floats, Floats, NDArray[np.float64]]:
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0  # a constant column becomes a column of zeros
    return mean, scale, (rows - mean) / scale


def _fit_linear(sample: Sample, params: dict[str, Any]) -> Scorer:
    from sklearn.linear_model import LogisticRegression

    mean, scale, rows = _standardized(sample.matrix)
    settings = {"max_iter": 500, "tol": 1e-5} | params
    model = LogisticRegression(random_state=sample.seed, **settings).fit(rows, sample.labels)
    return LinearScorer(mean, scale, np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0]))


def _fit_gbdt(sample: Sample, params: dict[str, Any]) -> Scorer:
    import lightgbm

    rounds = int(params.pop("num_iterations", 100))
    fixed = {
        "objective": "binary",
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": sample.seed,
        "verbose": -1,
    }
    try:
        data = lightgbm.Dataset(sample.matrix, sample.labels, free_raw_data=True)
        booster = lightgbm.train({**params, **fixed}, data, rounds)
    except lightgbm.basic.LightGBMError as fault:
        raise ValueError(str(fault)) from fault
    return GbdtScorer(booster.model_to_string())


def _fit_neural(sample: Sample, params: dict[str, Any]) -> Scorer:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale, rows = _standardized(sample.matrix)
    model = MLPClassifier(activation="relu", random_state=sample.seed, **params)
    with warnings.catch_warnings():
        # The card's few epochs are early stopping by choice: more of them only memorize.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows.astype(np.float32), sample.labels)
    layers = [
        (np.asarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64))
        for w, b in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    return NeuralScorer(mean, scale, layers)


_FIT: dict[str, Callable[[Sample, dict[str, Any]], Scorer]] = {
    "linear": _fit_linear,
    "gbdt": _fit_gbdt,
    "neural": _fit_neural,
}
