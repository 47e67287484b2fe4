"""The sampling correction is exact, and Platt's map finds the parameters that made the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from serinus.core.calibration import Calibration, fit_platt


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
