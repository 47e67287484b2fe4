"""Half widths and e-values of the normal mixture: against ville, against each other, and against printed tables."""

from __future__ import annotations

import numpy as np
import pytest
import ville
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr, ndtr, stdtrit
from ville._boundaries import normal_mixture

from serinus.core.stats.boundary import (
    half_width,
    half_width_one_sided,
    log_e,
    log_e_one_sided,
    student,
    threshold,
    tuned,
)

VARIANCES = st.floats(1e-8, 1e2)
TAUS = st.floats(1e-3, 10.0)
ALPHAS = st.floats(1e-4, 0.3)


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.002])
def test_the_two_sided_half_width_is_villes(alpha: float) -> None:
    variance, tau = np.geomspace(1e-8, 1.0, 40), 0.07
    theirs = normal_mixture(1 / variance, alpha, 1 / tau**2) * variance
    np.testing.assert_allclose(half_width(variance, tau, alpha), theirs, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.002])
def test_the_one_sided_half_width_is_just_wider_than_the_exact_mixture(alpha: float) -> None:
    variance, tau = np.geomspace(1e-7, 0.005, 40), 0.07
    exact = normal_mixture(1 / variance, alpha, 1 / tau**2, one_sided=True) * variance
    ratio = half_width_one_sided(variance, tau, alpha) / exact
    assert ratio.min() >= 1.0
    assert ratio.max() <= 1.03


def test_a_confidence_sequence_of_a_mean_is_villes() -> None:
    x = np.random.default_rng(3).exponential(2.0, 400)
    theirs = ville.AsymptoticCS(alpha=0.05, t_opt=200, min_samples=20).update(x)
    n = np.arange(20, 401)
    variance = np.array([x[:k].var(ddof=1) for k in n])
    # Their mixture is of standardized data; in units of the data tau grows with the estimated deviation.
    ours = half_width(variance / n, np.sqrt(variance / theirs.rho_), 0.05)
    np.testing.assert_allclose(ours, (theirs.upper_ - theirs.lower_)[19:] / 2, atol=1e-6)


def test_the_boundary_in_standard_errors_is_the_printed_one() -> None:
    """Two-sided and one-sided at V* / V = 0.1 ... 10, alpha 0.05, tuned at V*."""
    information = np.array([0.1, 0.25, 0.5, 1, 2, 4, 10])
    two = half_width(1 / information, tuned(1.0, 0.05, one_sided=False), 0.05) * np.sqrt(information)
    np.testing.assert_allclose(two, [3.86, 3.26, 3.08, 3.04, 3.06, 3.13, 3.24], atol=0.006)
    one = threshold(1 / information, tuned(1.0, 0.05), 0.05)
    np.testing.assert_allclose(one, [3.68, 3.04, 2.84, 2.78, 2.80, 2.87, 2.99], atol=0.006)


@given(VARIANCES, TAUS, ALPHAS, st.floats(0.5, 2.0))
def test_an_e_value_crosses_where_the_half_width_says(variance: float, tau: float, alpha: float, share: float) -> None:
    """Zero lies outside the confidence sequence exactly when the e-value is at least 1 / alpha."""
    for width, value in ((half_width, log_e), (half_width_one_sided, log_e_one_sided)):
        distance = share * width(variance, tau, alpha)
        if abs(share - 1) > 1e-6:
            assert (value(distance, variance, tau) >= -np.log(alpha)) == (share > 1)
        at = width(variance, tau, alpha)
        assert value(at, variance, tau) == pytest.approx(-np.log(alpha), rel=1e-6)


@given(VARIANCES, TAUS, st.floats(0.0, 10.0))
def test_the_one_sided_e_value_stays_below_the_exact_mixture(variance: float, tau: float, distance: float) -> None:
    root = np.sqrt(variance * (variance + tau**2)) / tau
    exact = np.log(2) - np.log1p(tau**2 / variance) / 2 + (distance / root) ** 2 / 2 + log_ndtr(distance / root)
    assert log_e_one_sided(distance, variance, tau) <= exact + 1e-9 * abs(exact)
    assert log_e_one_sided(-distance, variance, tau) == -np.inf


def test_the_two_sided_e_value_has_mean_one_under_the_null() -> None:
    """Numerically, over the estimate's distribution; the one-sided one at most that, for every null it stands for."""
    z = np.linspace(-40, 40, 200_001)
    log_density = np.log((z[1] - z[0]) / np.sqrt(2 * np.pi)) - z**2 / 2
    for variance in (0.01, 0.3, 2.0):
        distance = z * np.sqrt(variance)
        assert np.exp(log_e(distance, variance, 0.4) + log_density).sum() == pytest.approx(1.0, abs=1e-6)
        for shift in (0.0, -0.2):
            assert np.exp(log_e_one_sided(distance + shift, variance, 0.4) + log_density).sum() <= 1.0


@given(st.floats(1e-6, 1.0), ALPHAS)
def test_tuning_makes_the_bound_about_tightest_there(variance: float, alpha: float) -> None:
    best = half_width(variance, tuned(variance, alpha, one_sided=False), alpha)
    others = half_width(variance, tuned(variance, alpha, one_sided=False) * np.geomspace(0.05, 20, 400), alpha)
    assert best <= others.min() * 1.002


@pytest.mark.parametrize("freedom", [15, 29, 60, 500])
def test_few_units_widen_as_students_quantile_does(freedom: int) -> None:
    z = np.array([1.5, 2.0, 2.8, 3.3, 3.8])
    np.testing.assert_allclose(student(z, freedom), -stdtrit(freedom, ndtr(-z)), rtol=2e-3)
    assert np.isinf(student(50.0, 2.0))
