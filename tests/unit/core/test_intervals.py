"""Intervals of shares and rates: scipy's where that is exact, right near 0 and 1, and for requests that go together.

Coverage is simulated: of many made samples, the truth may lie outside of a 95 % interval in about 5 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from serinus.core.intervals import Interval, quotient, rate, share

Floats = NDArray[np.float64]
Sample = tuple[Floats, Floats, NDArray[np.int64]]
RUNS = 400
# Two-sided 5 %, with three standard errors of a share of 400 runs and a point for what is not exact.
MISSED = 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5 + 0.01


def alone(values: Floats) -> Sample:
    """Each request a cluster of its own."""
    return values, np.ones(len(values)), np.arange(len(values))


def missed(interval: Callable[..., Interval], sample: Callable[[np.random.Generator], Sample], truth: float) -> float:
    """In which share of the samples the truth lies outside."""
    rng = np.random.default_rng(17)
    found = [interval(*sample(rng)) for _ in range(RUNS)]
    return sum(not one.low <= truth <= one.high for one in found) / RUNS


@pytest.mark.parametrize("hits", [0, 1, 2, 10, 12, 25, 40, 49, 50])
def test_a_share_of_independent_requests_is_clopper_and_pearsons_near_both_ends(hits: int) -> None:
    found = share(*alone(np.array([1.0] * hits + [0.0] * (50 - hits))))
    exact = stats.binomtest(hits, 50).proportion_ci(method="exact")
    few = min(hits, 50 - hits) < 10
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9 if few else 0.02)


@pytest.mark.parametrize("events", [0, 1, 3, 9])
def test_a_rate_of_few_independent_events_is_garwoods(events: int) -> None:
    found = rate(*alone(np.array([1.0] * events + [0.0] * (500 - events))))
    low = stats.chi2.ppf(0.025, 2 * events) / 1000 if events else 0.0
    high = stats.chi2.ppf(0.975, 2 * events + 2) / 1000
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.03)


@pytest.mark.parametrize("count", [10, 50, 300])
@pytest.mark.parametrize("p", [0.01, 0.05, 0.3, 0.95, 0.99])
def test_a_share_covers_near_zero_and_one_in_small_samples(count: int, p: float) -> None:
    assert missed(share, lambda rng: alone(rng.binomial(1, p, count).astype(float)), p) <= MISSED


@pytest.mark.parametrize("count", [10, 50, 300])
@pytest.mark.parametrize("mean", [0.01, 0.1, 1.5])
def test_a_rate_covers_near_zero_in_small_samples(count: int, mean: float) -> None:
    assert missed(rate, lambda rng: alone(rng.poisson(mean, count).astype(float)), mean) <= MISSED


def customers(rng: np.random.Generator, count: int, own: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Eight requests of each on average, and what each request of each is to be drawn with."""
    requests = rng.geometric(1 / 8, count)
    return np.repeat(own, requests), np.ones(requests.sum()), np.repeat(np.arange(count), requests)


@pytest.mark.parametrize("count", [20, 100, 400])
@pytest.mark.parametrize(("p", "alike"), [(0.01, 0.05), (0.01, 0.5), (0.05, 0.5), (0.3, 0.5), (0.98, 0.05)])
def test_a_share_covers_where_requests_of_a_customer_are_alike(count: int, p: float, alike: float) -> None:
    def sample(rng: np.random.Generator) -> Sample:
        odds = 1 / alike - 1
        each, ones, who = customers(rng, count, rng.beta(p * odds, (1 - p) * odds, count))
        return (rng.random(len(each)) < each).astype(float), ones, who

    assert missed(share, sample, p) <= MISSED


@pytest.mark.parametrize("count", [20, 100, 400])
@pytest.mark.parametrize(("mean", "shape"), [(0.02, 0.3), (0.02, 2.0), (0.3, 2.0), (1.5, 2.0)])
def test_a_rate_covers_where_requests_of_a_customer_are_alike(count: int, mean: float, shape: float) -> None:
    def sample(rng: np.random.Generator) -> Sample:
        each, ones, who = customers(rng, count, rng.gamma(shape, mean / shape, count))
        return rng.poisson(each).astype(float), ones, who

    assert missed(rate, sample, mean) <= MISSED


def test_one_customer_who_always_fails_says_little_of_the_others() -> None:
    top, clusters = np.zeros(1000), np.repeat(np.arange(20), 50)
    top[:50] = 1.0
    found = share(top, np.ones(1000), clusters)
    assert found.estimate == 0.05
    assert found.low < 0.002
    assert found.high > 0.2


def test_customers_who_are_all_the_same_are_no_certainty() -> None:
    found = share(np.tile([1.0, 0.0], 20), np.ones(40), np.repeat(np.arange(20), 2))
    assert found.low < 0.4
    assert found.high > 0.6


def test_many_requests_of_few_customers_without_an_error_do_not_count_as_many() -> None:
    few = share(np.zeros(1000), np.ones(1000), np.repeat(np.arange(10), 100))
    many = share(*alone(np.zeros(1000)))
    assert few.high == pytest.approx(stats.binomtest(0, 10).proportion_ci().high)
    assert many.high == pytest.approx(stats.binomtest(0, 1000).proportion_ci().high)


values = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e6, allow_subnormal=False))


@given(top=values, groups=st.integers(1, 10))
def test_a_rate_of_anything_that_is_not_negative_has_an_interval_around_it(top: Floats, groups: int) -> None:
    found = rate(top, np.ones(len(top)), np.arange(len(top)) % groups)
    assert 0 <= found.low <= found.estimate <= found.high
    assert found.low < found.high
    assert np.isfinite(found.high)


@given(top=arrays(np.float64, st.integers(1, 30), elements=st.sampled_from((0.0, 1.0))), groups=st.integers(1, 10))
def test_a_share_of_anything_lies_within_zero_and_one_and_has_a_width(top: Floats, groups: int) -> None:
    found = share(top, np.ones(len(top)), np.arange(len(top)) % groups)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.high - found.low > 0.01


@given(top=values)
def test_a_quotient_is_one_over_the_rate_of_what_happened(top: Floats) -> None:
    found = quotient(np.ones(len(top)), top, np.arange(len(top)))
    if not top.sum():
        assert np.isnan(found.estimate)
        return
    assert 0 <= found.low <= found.estimate <= found.high


def test_nothing_seen_of_amounts_is_bounded_by_what_one_may_be_worth() -> None:
    plain, worth = (rate(*alone(np.zeros(100)), event=event) for event in (1.0, 250.0))
    assert worth.high == pytest.approx(250 * plain.high)


def test_without_rows_nothing_is_said() -> None:
    for one in (share, rate, quotient):
        assert np.isnan(one(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)).estimate)


def test_amounts_below_zero_have_a_symmetric_interval() -> None:
    found = rate(*alone(np.array([-30.0, 10.0, 20.0, 15.0])))
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)
    assert np.isnan(rate(*alone(np.array([-1.0]))).low)
