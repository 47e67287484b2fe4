"""Exact tests: the e-process of incidents, and the shares of the arms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import ville
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

from serinus.core.stats import srm
from serinus.core.stats.counts import POINTS, CountState, mixture_log_e
from serinus.core.stats.moments import Cell
from serinus.core.stats.reading import Counts
from serinus.core.words import Arm

COUNTS = st.builds(
    lambda step, worse, bad, canary, stable: Counts(
        step, {Arm.CANARY: worse, Arm.STABLE: bad}, {Arm.CANARY: canary, Arm.STABLE: stable}
    ),
    st.integers(0, 3),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 3000),
    st.integers(0, 3000),
)


def _counts(canary: int, stable: int, requests: tuple[int, int] = (1000, 1000)) -> Counts:
    return Counts(0, {Arm.CANARY: canary, Arm.STABLE: stable}, {Arm.CANARY: requests[0], Arm.STABLE: requests[1]})


@given(st.lists(COUNTS, max_size=12), st.integers(0, 12), st.floats(1.0, 1.5))
def test_a_stored_state_goes_on_like_a_recomputed_one(counts: list[Counts], cut: int, null: float) -> None:
    whole = CountState.start(null).add(counts)
    stored = CountState.start(null).add(counts[:cut]).as_dict()
    assert CountState.from_dict(stored).add(counts[cut:]).as_dict() == whole.as_dict()
    backwards = CountState.start(null).add(counts[::-1])
    assert backwards.log_e() == pytest.approx(whole.log_e(), rel=1e-9, abs=1e-9)


@given(st.lists(COUNTS, max_size=12), st.floats(1.0, 1.5), st.floats(0.001, 0.2))
def test_the_low_bound_reaches_the_null_when_the_e_value_says_so(
    counts: list[Counts], null: float, alpha: float
) -> None:
    state = CountState.start(null).add(counts)
    low, high = state.low(alpha), state.high(alpha)
    assert (low is not None and low >= null) == (state.log_e() >= -np.log(alpha))
    if low is not None and high is not None:
        assert low < high


def test_a_history_at_once_is_the_fold() -> None:
    rng = np.random.default_rng(1)
    canary, stable, requests = rng.poisson(3, 30), rng.poisson(5, 30), rng.integers(200, 3000, (30, 2))
    state, found = CountState.start(1.1), []
    for at in range(30):
        state = state.add([_counts(int(canary[at]), int(stable[at]), tuple(requests[at].tolist()))])
        found.append(state.log_e())
    at_once = mixture_log_e(canary.astype(float), stable.astype(float), requests[:, 0] / requests.sum(axis=1), 1.1)
    np.testing.assert_allclose(at_once, found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.1])
def test_the_e_value_has_a_mean_of_at_most_one_for_every_harmless_ratio(ratio: float) -> None:
    """Exactly, over all splits of incidents in two increments at different shares."""
    total = 0.0
    for one, two in itertools.product(range(7), range(5)):
        chance, state = 1.0, CountState.start(1.1)
        for count, of, requests in ((one, 6, (100, 900)), (two, 4, (500, 500))):
            theta = requests[0] * ratio / (requests[0] * ratio + requests[1])
            ways = np.exp(gammaln(of + 1) - gammaln(count + 1) - gammaln(of - count + 1))
            chance *= ways * theta**count * (1 - theta) ** (of - count)
            state = state.add([_counts(count, of - count, requests)])
        total += chance * np.exp(state.log_e())
    assert total <= 1.0 + 1e-12
    assert ratio < 1.1 or total == pytest.approx(1.0)


def test_an_arm_without_requests_is_no_evidence() -> None:
    state = CountState.start(1.1).add([_counts(50, 0, (1000, 0))])
    assert state.log_e() == pytest.approx(0.0)
    assert state.requests == {Arm.CANARY: 1000, Arm.STABLE: 0}
    assert state.estimate is None


def test_bounds_enclose_the_ratio() -> None:
    state = CountState.start(1.1).add([_counts(60, 30)] * 20)
    low, high = state.low(0.05), state.high(0.05)
    assert state.estimate == pytest.approx(2.0)
    assert low is not None
    assert high is not None
    assert 1.5 < low < 2.0 < high < 2.7
    assert state.grid.ratios[POINTS] == 1.1
    assert len(state.grid.ratios) == 2 * POINTS + 1
    assert (np.diff(state.grid.ratios) > 0).all()


def test_shares_of_arms_are_tested_as_ville_does() -> None:
    theirs = ville.BernoulliTest(0.05, alpha=0.01, prior=(50.0, 950.0))
    draws = (np.random.default_rng(2).random(5000) < 0.06).astype(float)
    theirs.update(draws)
    canary = np.cumsum(draws)
    ours = srm.log_e(canary, np.arange(1, 5001) - canary, 0.05)
    np.testing.assert_allclose(ours, theirs.log_e_values_, atol=1e-6)


def test_e_values_of_steps_multiply() -> None:
    units = {Cell(0, Arm.CANARY): 60, Cell(0, Arm.STABLE): 940, Cell(2, Arm.CANARY): 480, Cell(2, Arm.STABLE): 520}
    both = srm.mismatch(units, {0: 0.05, 2: 0.5})
    assert both.log_e == pytest.approx(float(srm.log_e(60, 940, 0.05) + srm.log_e(480, 520, 0.5)))
    assert not both.mismatch


def test_a_leak_of_units_to_the_canary_is_found() -> None:
    units = {Cell(0, Arm.CANARY): 800, Cell(0, Arm.STABLE): 9200}
    assert srm.mismatch(units, {0: 0.05}).mismatch
    assert not srm.mismatch(units, {}).mismatch
