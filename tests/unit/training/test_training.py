"""Sampling, fitting, metrics, selection and comparison on small made data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serinus.core.card import Candidate, Problem
from serinus.core.errors import CardError
from serinus.features.inputs import Value
from serinus.model.bundle import content_hash, write_bundle
from serinus.training.baselines import baseline_scores
from serinus.training.compare import Scored, compare
from serinus.training.dataset import Split
from serinus.training.evaluation import choose
from serinus.training.fit import Sample, fit
from serinus.training.metrics import Window, all_metrics, expected_calibration_error
from serinus.training.profile import profiles
from serinus.training.results import Latency, ModelResult
from serinus.training.sampling import kept_rows

RNG = np.random.default_rng(2)
X = RNG.normal(size=(2_000, 3)).astype(np.float32)
Y = (RNG.random(2_000) < 1 / (1 + np.exp(-(X[:, 0] - X[:, 1])))).astype(float)
CANDIDATES = [
    Candidate(name="linear", kind="linear"),
    Candidate(name="gbdt", kind="gbdt", params={"num_iterations": 20, "num_leaves": 7}),
    Candidate(name="neural", kind="neural", params={"hidden_layer_sizes": [8], "max_iter": 15}),
]


def test_sampling_keeps_positives_and_a_share_of_negatives() -> None:
    ids = np.array([f"r{i}" for i in range(20_000)])
    labels = (np.arange(20_000) % 20 == 0).astype(np.int64)
    kept = kept_rows(ids, ids, labels, rate=0.3, seed=1)
    assert kept[labels == 1].all()
    assert kept[labels == 0].mean() == pytest.approx(0.3, abs=0.01)


def test_sampling_is_a_property_of_the_row() -> None:
    ids = np.array([f"r{i}" for i in range(1_000)])
    labels = np.zeros(1_000, dtype=np.int64)
    whole = kept_rows(ids, ids, labels, rate=0.3, seed=1)
    part = kept_rows(ids[300:], ids[300:], labels[300:], rate=0.3, seed=1)
    assert np.array_equal(whole[300:], part)
    assert not np.array_equal(whole, kept_rows(ids, ids, labels, rate=0.3, seed=2))


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.kind)
def test_a_fit_learns_and_repeats_itself(candidate: Candidate, tmp_path: Path) -> None:
    first, second = (fit(candidate, Sample(X, Y, 7)) for _ in range(2))
    window = Window(pd.DataFrame({"label": Y}), ranking=False, k=10, revenue_cap=np.inf)
    probabilities = 1 / (1 + np.exp(-first.log_odds(X)))
    assert all_metrics(window, probabilities)["auc"] > 0.7
    for scorer, name in ((first, "a"), (second, "b")):
        (tmp_path / name).mkdir()
        scorer.save(tmp_path / name)
    assert (tmp_path / "a" / first.file).read_bytes() == (tmp_path / "b" / first.file).read_bytes()


@pytest.mark.parametrize("kind", ["linear", "gbdt", "neural"])
def test_parameters_that_a_library_refuses_are_a_fault_of_the_card(kind: str) -> None:
    params = {"linear": {"C": -1}, "gbdt": {"num_leaves": 1}, "neural": {"hidden_layer_sizes": [-1]}}[kind]
    with pytest.raises(CardError, match="cannot be fitted with the parameters of the card"):
        fit(Candidate(name="bad", kind=kind, params=params), Sample(X, Y, 7))  # type: ignore[arg-type]


def test_a_constant_input_is_harmless() -> None:
    rows = X.copy()
    rows[:, 2] = 4.0
    assert np.isfinite(fit(CANDIDATES[0], Sample(rows, Y, 7)).log_odds(rows)).all()


def test_a_profile_gives_zero_a_bin_of_its_own() -> None:
    """Trap: inputs that are mostly zero collapse quantile bins, and drift of the rest is never seen."""
    values = np.zeros((1_000, 1), dtype=np.float32)
    values[:100, 0] = np.linspace(1, 2, 100)
    (found,) = profiles((Value(name="x", of="v:x"),), values)
    assert found.zero_share == pytest.approx(0.9)
    assert len(found.edges) == 11
    assert sum(found.shares) == pytest.approx(0.1)


def test_metrics_of_a_perfect_and_of_a_useless_model() -> None:
    window = Window(pd.DataFrame({"label": Y}), ranking=False, k=10, revenue_cap=np.inf)
    useless = all_metrics(window, np.full(len(Y), Y.mean()))
    assert useless["auc"] == 0.5
    assert useless["normalized_entropy"] == pytest.approx(1.0)
    assert useless["calibration_ratio"] == pytest.approx(1.0)
    perfect = all_metrics(window, np.clip(Y, 0.001, 0.999))
    assert perfect["auc"] == 1.0
    assert perfect["normalized_entropy"] < 0.01


def test_calibration_error_is_zero_when_told_shares_hold() -> None:
    labels = np.tile([0.0, 1.0], 750)
    assert expected_calibration_error(np.full(1_500, 0.5), labels) == pytest.approx(0.0, abs=0.01)
    assert expected_calibration_error(np.full(1_500, 0.8), labels) == pytest.approx(0.3, abs=0.01)


def _split(columns: dict[str, list[float]]) -> tuple[tuple[Value, ...], Split]:
    names = list(columns)
    rows = pd.DataFrame({"request_id": "r", "item": [str(i) for i in range(len(columns[names[0]]))], "label": 0})
    inputs = tuple(Value(name=name, of=f"v:{name}") for name in names)
    return inputs, Split(np.array(list(columns.values()), dtype=np.float32).T, rows)


def test_bought_before_comes_first_then_popularity(retail_card: Problem) -> None:
    baseline = next(one for one in retail_card.data.baselines if one.name == "bought_before")
    inputs, split = _split({"i_lines_30": [5, 9, 1, 9], "x_bought": [0, 0, 1, 1]})
    scores = baseline_scores(baseline, inputs, split, seed=0)
    assert np.argsort(-scores, kind="stable").tolist() == [3, 2, 1, 0]


def test_equal_rows_of_a_baseline_share_a_score(retail_card: Problem) -> None:
    baseline = next(one for one in retail_card.data.baselines if one.name == "popularity")
    inputs, split = _split({"i_lines_30": [5, 5, 9]})
    scores = baseline_scores(baseline, inputs, split, seed=0)
    assert scores[0] == scores[1] < scores[2]


def test_a_baseline_of_an_unknown_input_is_a_fault_of_the_card(retail_card: Problem) -> None:
    inputs, split = _split({"other": [1, 2]})
    with pytest.raises(CardError, match="sorts by i_lines_30"):
        baseline_scores(retail_card.data.baselines[1], inputs, split, seed=0)


def _result(name: str, entropy: float, class_ms: float) -> ModelResult:
    return ModelResult(
        name=name, kind="linear", metrics={}, validation_metrics={"normalized_entropy": entropy},
        calibration_by_month={}, latency=Latency(p50_ms=1, p99_ms=1, class_ms=class_ms), size_bytes=1, fit_seconds=1,
        bundle_hash="", precision_recall=(), reliability=(), importance=(), slices=(),
    )  # fmt: skip


def test_the_best_within_the_latency_class_is_chosen(retail_card: Problem) -> None:
    models = [_result("slow", 0.80, 100), _result("good", 0.90, 5), _result("worse", 0.91, 1)]
    name, why = choose(retail_card, models)
    assert name == "good"
    assert "within 20 ms" in why


def test_with_none_fast_enough_the_fastest_class_decides(retail_card: Problem) -> None:
    assert choose(retail_card, [_result("a", 0.8, 1000), _result("b", 0.9, 100)])[0] == "b"


def _window(entities: int, each: int) -> tuple[Window, np.ndarray, np.ndarray]:
    """Requests of ten items; the better model always ranks the positive first, the other one never."""
    requests = entities * each
    rows = pd.DataFrame(
        {
            "request": np.repeat(np.arange(requests), 12),
            "entity": np.repeat(np.repeat(np.arange(entities), each), 12),
            "label": np.tile([1] + [0] * 11, requests),
            "value": 1.0,
        }
    )
    good = np.tile(np.linspace(0.9, 0.1, 12), requests)
    return Window(rows, ranking=True, k=10, revenue_cap=np.inf), good, good[::-1].copy()


def test_a_difference_that_never_varies_has_no_width() -> None:
    window, good, bad = _window(20, 3)
    found = compare(window, "hits_at_10", Scored("good", good), Scored("bad", bad), seed=1)
    assert (found.difference, found.low, found.high, found.entities) == (1.0, 1.0, 1.0, 20)


def test_the_interval_draws_entities_and_not_requests() -> None:
    """Fifty requests of one entity that say the same are one observation."""
    rng = np.random.default_rng(4)
    window, good, _ = _window(12, 50)
    wins = np.repeat(np.repeat(rng.random(12) < 0.5, 50), 12)
    mixed = np.where(wins, good, good[::-1])
    found = compare(window, "hits_at_10", Scored("mixed", mixed), Scored("good", good), seed=1)
    width = found.high - found.low
    share = wins.reshape(12, -1)[:, 0].mean()
    assert width > 2 * 1.96 * np.sqrt(share * (1 - share) / 600) * 3


def test_equal_inputs_give_equal_bundle_hashes(tmp_path: Path) -> None:
    from tests.unit.model.test_bundle import _manifest

    hashes = set()
    for name in ("a", "b"):
        scorer = fit(CANDIDATES[1], Sample(X, Y, 7))
        write_bundle(tmp_path / name, _manifest(scorer), scorer)
        hashes.add(content_hash(tmp_path / name))
    assert len(hashes) == 1
