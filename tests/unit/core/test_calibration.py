"""The sampling correction is exact, and Platt's map finds the parameters that made the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

from serinus.core.calibration import Calibration, fit_platt
from serinus.core.errors import DataError


@given(st.floats(0.001, 0.999), st.floats(0.01, 1.0))
def test_the_correction_equals_the_published_formula(p: float, w: float) -> None:
    expected = p / (p + (1 - p) / w)
    assert Calibration(sampling_rate=w).probability(np.array([logit(p)]))[0] == pytest.approx(expected, rel=1e-9)


def test_the_correction_recovers_the_base_rate_of_a_sampled_set() -> None:
    rng = np.random.default_rng(3)
    truth = expit(rng.normal(-3, 1, 400_000))
    labels = rng.random(len(truth)) < truth
    kept = labels | (rng.random(len(truth)) < 0.1)
    odds_of_sample = logit(truth) - np.log(0.1)  # what a perfect model of the sample would say
    corrected = Calibration(sampling_rate=0.1).probability(odds_of_sample)
    assert corrected.sum() == pytest.approx(labels.sum(), rel=0.02)
    assert expit(odds_of_sample)[kept].sum() == pytest.approx(labels.sum(), rel=0.02)


def test_platt_finds_slope_and_intercept() -> None:
    rng = np.random.default_rng(5)
    odds = rng.normal(0, 2, 200_000)
    labels = (rng.random(len(odds)) < expit(0.7 * odds - 0.4)).astype(float)
    found = fit_platt(odds, labels, sampling_rate=1.0)
    assert found.slope == pytest.approx(0.7, abs=0.02)
    assert found.intercept == pytest.approx(-0.4, abs=0.02)


def test_platt_keeps_the_order() -> None:
    odds = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    found = fit_platt(odds, np.array([0, 0, 1, 0, 1, 1.0]), sampling_rate=0.3)
    assert (np.diff(found.probability(odds)) > 0).all()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_platt_on_one_class_learns_nothing(label: float) -> None:
    assert fit_platt(np.array([0.1, 0.2]), np.full(2, label), sampling_rate=0.5) == Calibration(sampling_rate=0.5)


def test_a_reversed_model_is_not_turned_around() -> None:
    odds = np.linspace(-3, 3, 100)
    assert fit_platt(odds, (odds < 0).astype(float), sampling_rate=1.0) == Calibration()


def _drawn(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of usual size, and labels of both classes that go with them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, rows)
    labels = (rng.random(rows) < expit(0.7 * scores - 0.4)).astype(float)
    labels[np.argmax(scores)], labels[np.argmin(scores)] = 1.0, 0.0
    return scores, labels


def _oracle(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Platt's targets and their likelihood, maximized by a general method of scipy."""
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    found = minimize(
        lambda theta: (np.logaddexp(0, theta[0] * scores + theta[1]) - targets * (theta[0] * scores + theta[1])).sum(),
        np.zeros(2),
        jac=lambda theta: np.array(
            [((expit(theta[0] * scores + theta[1]) - targets) * one).sum() for one in (scores, np.ones_like(scores))]
        ),
        method="BFGS",
        options={"gtol": 1e-9},
    )
    return np.asarray(expit(found.x[0] * scores + found.x[1]))


@given(
    seed=st.integers(0, 10_000), rows=st.integers(20, 400), power=st.floats(-6, 6), shift=st.floats(-1e3, 1e3),
    rate=st.floats(0.01, 1.0),
)  # fmt: skip
def test_scores_of_any_scale_and_shift_get_the_probabilities_that_an_oracle_gives(
    seed: int, rows: int, power: float, shift: float, rate: float
) -> None:
    scores, labels = _drawn(seed, rows)
    expected = _oracle(scores, labels)
    found = fit_platt(10.0**power * (scores + shift), labels, sampling_rate=rate)
    assert found != Calibration(sampling_rate=rate)
    assert found.probability(10.0**power * (scores + shift)) == pytest.approx(expected, abs=1e-6)


@given(rows=st.integers(2, 200), power=st.floats(-6, 6))
def test_scores_that_separate_the_classes_get_probabilities_short_of_certainty(rows: int, power: float) -> None:
    scores = np.linspace(-1, 1, 2 * rows) * 10.0**power
    labels = (scores > 0).astype(float)
    found = fit_platt(scores, labels, sampling_rate=1.0)
    assert np.isfinite([found.slope, found.intercept]).all()
    p = found.probability(scores)
    assert p.sum() == pytest.approx(rows, abs=1e-6)
    assert 0 < p[0] < 0.5 < p[-1] < 1
    assert (np.diff(p) >= 0).all()


@pytest.mark.parametrize("score", [0.0, 1e-9, -3.0, 1e6])
def test_equal_scores_teach_nothing(score: float) -> None:
    found = fit_platt(np.full(10, score), np.arange(10) % 2.0, sampling_rate=0.5)
    assert found == Calibration(sampling_rate=0.5)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(odd: float) -> None:
    with pytest.raises(DataError, match="cannot be fitted"):
        fit_platt(np.array([0.0, 1.0, odd]), np.array([0.0, 1.0, 1.0]), sampling_rate=1.0)


def test_few_rows_far_out_do_not_stop_the_search() -> None:
    scores = np.concatenate([np.zeros(1_000), [1e6, -1e6]])
    labels = np.concatenate([np.arange(1_000) % 2, [1.0, 0.0]])
    p = fit_platt(scores, labels, sampling_rate=1.0).probability(scores)
    assert p[:1_000] == pytest.approx(0.5, abs=1e-3)
    assert p[-2] > 0.5 > p[-1]
