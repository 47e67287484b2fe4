"""Judges all candidates and baselines on the test window, and picks one by the card's rule.

Invariant: the pick reads the validation window and latency classes only; the test window reports, it never selects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serinus.core.card import Problem
from serinus.core.errors import SerinusError
from serinus.core.kpi.ranked import log_loss
from serinus.core.metric import at
from serinus.features.batch import Batch
from serinus.features.inputs import INPUTS, Inputs
from serinus.features.transforms import Matrix, matrix
from serinus.model.bundle import Bundle
from serinus.training.baselines import baseline_metrics
from serinus.training.compare import Scored, comparable, compare
from serinus.training.dataset import TrainingSet
from serinus.training.metrics import (
    Window,
    all_metrics,
    calibration_by_month,
    precision_recall,
    reliability,
)
from serinus.training.results import Comparison, Evaluation, Latency, ModelResult, Slice

Floats = NDArray[np.float64]
Clock = Callable[[], float]
TIMED_REQUESTS = 300
MOST_SLICES = 8
IMPORTANCE_ROWS = 6_000


@dataclass(frozen=True)
class Contender:
    """A candidate's bundle, with what its training step measured."""

    bundle: Bundle
    bundle_hash: str
    fit_seconds: float
    size_bytes: int

    @property
    def name(self) -> str:
        """The candidate's name in the card."""
        return self.bundle.manifest.candidate


@dataclass(frozen=True)
class Champion:
    """The version in production, or why it cannot be scored."""

    version: int
    bundle: Bundle | None
    error: str = ""


class _Windows:
    """Validation and test rows, and their matrix for any model's own inputs."""

    def __init__(self, card: Problem, data: TrainingSet) -> None:
        self.card, self.data = card, data
        self.inputs = data.inputs()
        self.test, self.held_out = data.split("test"), data.split("validate")
        self.window = Window.of(self.test.rows, card)
        self._batch: Batch | None = None

    def test_matrix(self, inputs: Inputs) -> Matrix:
        """The stored matrix where the inputs are those of this run, else evaluated anew from the lookups."""
        if inputs == self.inputs:
            return self.test.matrix
        if self._batch is None:
            self._batch = self.data.test_batch()
        return matrix(inputs, self._batch)


def evaluate(
    card: Problem,
    data: TrainingSet,
    contenders: Sequence[Contender],
    champion: Champion | None,
    *,
    clock: Clock = time.perf_counter,
) -> Evaluation:
    """All figures of the report and the gates."""
    windows = _Windows(card, data)
    scored = {one.name: one.bundle.probabilities(windows.test.matrix) for one in contenders}
    models = tuple(_result(one, scored[one.name], windows, clock) for one in contenders)
    chosen, why = choose(card, models)
    comparisons = _comparisons(windows, scored, chosen)
    champion_error = champion.error if champion else ""
    if champion is not None and champion.bundle is not None:
        against, champion_error = _score_champion(champion.bundle, windows)
        if against is not None:
            comparisons += _against_champion(windows, scored, against)
    labels = windows.test.labels
    span = card.data.splits.test
    return Evaluation(
        problem=card.name,
        window=f"{span.start} to {span.end}",
        requests=int(windows.test.rows["request"].max()) + 1,
        rows=len(labels),
        positives=int(labels.sum()),
        base_rate=float(labels.mean()),
        models=models,
        baselines=baseline_metrics(card, windows.inputs, windows.test),
        chosen=chosen,
        chosen_because=why,
        comparisons=comparisons,
        champion_version=champion.version if champion else None,
        champion_error=champion_error,
    )


def _result(one: Contender, probabilities: Floats, windows: _Windows, clock: Clock) -> ModelResult:
    held_out = windows.held_out
    on_validation = all_metrics(Window.of(held_out.rows, windows.card), one.bundle.probabilities(held_out.matrix))
    return ModelResult(
        name=one.name,
        kind=one.bundle.manifest.scorer,
        metrics=all_metrics(windows.window, probabilities),
        validation_metrics=on_validation,
        calibration_by_month=calibration_by_month(windows.window, probabilities),
        latency=_latency(one.bundle, windows, clock),
        size_bytes=one.size_bytes,
        fit_seconds=one.fit_seconds,
        bundle_hash=one.bundle_hash,
        precision_recall=precision_recall(probabilities, windows.test.labels),
        reliability=reliability(probabilities, windows.test.labels),
        importance=_importance(one.bundle, windows),
        slices=_slices(windows, probabilities),
    )


def choose(card: Problem, models: Sequence[ModelResult]) -> tuple[str, str]:
    """The card's rule, and why it picked this one. With none in the class, the fastest class decides."""
    rule = card.data.selection
    fast = [one for one in models if one.latency.class_ms <= rule.slowest_class_ms]
    among = fast or [one for one in models if one.latency.class_ms == min(m.latency.class_ms for m in models)]
    sign = 1.0 if rule.direction == "higher" else -1.0
    best = max(among, key=lambda one: sign * one.validation_metrics[rule.metric])
    others = ", ".join(f"{one.name} {one.validation_metrics[rule.metric]:.4f}" for one in among if one is not best)
    value = best.validation_metrics[rule.metric]
    why = f"best {rule.metric} on the validation window ({value:.4f}{'; ' + others if others else ''})"
    return best.name, f"{why} among those within {rule.slowest_class_ms:g} ms a request"


def _latency(bundle: Bundle, windows: _Windows, clock: Clock) -> Latency:
    """Time to score one request's matrix, many times over the first requests of the window, on one thread."""
    size = windows.card.requirements.latency.items
    rows = windows.test.matrix[: size * TIMED_REQUESTS]
    times = []
    for start in range(0, max(len(rows) - size + 1, 1), size):
        request = np.ascontiguousarray(rows[start : start + size])
        began = clock()
        bundle.probabilities(request)
        times.append((clock() - began) * 1e3)
    p50, p99 = np.quantile(times, [0.5, 0.99])
    bounds = windows.card.data.selection.latency_classes_ms
    return Latency(
        p50_ms=float(p50), p99_ms=float(p99), class_ms=next((b for b in bounds if p50 <= b), float(max(bounds) * 10))
    )


def _importance(bundle: Bundle, windows: _Windows) -> tuple[tuple[str, float], ...]:
    """Rise of the log loss when one input is shuffled among the rows (Breiman 2001), as shares; largest first."""
    rows = np.linspace(0, len(windows.test.matrix) - 1, min(IMPORTANCE_ROWS, len(windows.test.matrix))).astype(int)
    base, labels = np.ascontiguousarray(windows.test.matrix[rows]), windows.test.labels[rows]
    rng = np.random.default_rng(windows.card.data.seed)
    shuffle = rng.permutation(len(rows))

    def loss(values: Matrix) -> float:
        return float(log_loss(bundle.probabilities(values), labels).mean())

    start, rises = loss(base), []
    for position in range(base.shape[1]):
        changed = base.copy()
        changed[:, position] = base[shuffle, position]
        rises.append(max(loss(changed) - start, 0.0))
    total = sum(rises) or 1.0
    named = [(one.name, rise / total) for one, rise in zip(windows.inputs, rises, strict=True)]
    return tuple(sorted(named, key=lambda pair: -pair[1]))


def _slices(windows: _Windows, probabilities: Floats) -> tuple[Slice, ...]:
    """Metrics of the parts that the card's slice gates name; a part is a value of a model input."""
    names = [one.name for one in windows.inputs]
    wanted = {name for gate in windows.card.operation.gates if gate.check == "slices" for name in gate.by}
    return tuple(
        one
        for name in sorted(wanted & set(names))
        for one in _slice(name, windows.test.matrix[:, names.index(name)], windows, probabilities)
    )


def _slice(by: str, values: NDArray[np.float32], windows: _Windows, probabilities: Floats) -> list[Slice]:
    found = []
    for value in np.unique(values)[:MOST_SLICES]:
        keep = values == value
        part = windows.window.part(keep)
        if len(np.unique(part.labels)) < 2:
            continue
        metrics = all_metrics(part, probabilities[keep])
        requests = int(part.rows["request"].max()) + 1
        found.append(Slice(by=by, value=f"{value:g}", requests=requests, metrics=metrics))
    return found


def _comparisons(windows: _Windows, scored: Mapping[str, Floats], chosen: str) -> tuple[Comparison, ...]:
    """The chosen candidate against each other one, by the metric of the card's rule."""
    metric = comparable(windows.window, windows.card.data.selection.metric)
    ours = Scored(chosen, scored[chosen])
    return tuple(
        compare(windows.window, one, ours, Scored(name, values), seed=windows.card.data.seed)
        for name, values in scored.items()
        if name != chosen
        for one in _metrics_to_compare(windows, metric)
    )


def _metrics_to_compare(windows: _Windows, metric: str) -> tuple[str, ...]:
    window = windows.window
    return tuple(dict.fromkeys((metric, at("hits", window.k)))) if window.ranking else (metric,)


def _score_champion(bundle: Bundle, windows: _Windows) -> tuple[Scored | None, str]:
    try:
        inputs = INPUTS.validate_python([dict(one) for one in bundle.manifest.inputs])
        return Scored("champion", bundle.probabilities(windows.test_matrix(inputs))), ""
    except SerinusError as fault:
        return None, fault.headline


def _against_champion(windows: _Windows, scored: Mapping[str, Floats], champion: Scored) -> tuple[Comparison, ...]:
    """Every candidate against the champion, because any of them may be asked to register."""
    metrics = {gate.metric for gate in windows.card.operation.gates if gate.check == "champion" and gate.metric}
    compared = sorted({comparable(windows.window, metric) for metric in metrics})
    return tuple(
        compare(windows.window, metric, Scored(name, values), champion, seed=windows.card.data.seed)
        for name, values in scored.items()
        for metric in compared
    )
