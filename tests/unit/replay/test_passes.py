"""May visits be replayed several times? Only with units of their own: A/A tests of every design, and which of them lie.

Two identical arms, recorded visits of customers who differ, five passes; an arm is given by the bucket of a unit. Each
design is asked 400 times, under as many salts, whether the arms differ (two-sided, 5 %).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from serinus.client import bucket_of

CUSTOMERS, SALTS, PASSES, ALPHA = 300, 400, 5, 0.05
Z = 1.959963984540054
Ints = NDArray[np.int64]


@pytest.fixture(scope="module")
def visits() -> tuple[Ints, NDArray[np.float64]]:
    """Customer and hits of each visit: a few customers come often, and customers differ more than their visits do."""
    rng = np.random.default_rng(20111003)
    counts = rng.geometric(0.45, CUSTOMERS)
    customer = np.repeat(np.arange(CUSTOMERS), counts)
    return customer, rng.poisson(1.5 * rng.gamma(2.0, 0.5, CUSTOMERS)[customer]).astype(np.float64)


def _false_alarms(visits: tuple[Ints, NDArray[np.float64]], *, unit_has_pass: bool, clusters: str) -> float:
    """Share of salts under which the arms seem to differ."""
    customer, hits = visits
    number = np.repeat(np.arange(PASSES), len(customer))
    who, outcome = np.tile(customer, PASSES), np.tile(hits, PASSES)
    cluster = {"customer": who, "customer and pass": who * PASSES + number, "visit": np.arange(len(who))}[clusters]
    _, member = np.unique(cluster, return_inverse=True)
    alarms = 0
    for salt in range(SALTS):
        buckets = [
            [bucket_of(f"{salt:016x}", f"{one}#{p}" if unit_has_pass else f"{one}") for one in range(CUSTOMERS)]
            for p in range(PASSES)
        ]
        canary = np.array(buckets)[number, who] < 500
        alarms += _differs(canary, outcome, member)
    return alarms / SALTS


def _differs(canary: NDArray[np.bool_], outcome: NDArray[np.float64], member: Ints) -> bool:
    difference, variance = 0.0, 0.0
    for arm, sign in ((canary, 1.0), (~canary, -1.0)):
        mean = outcome[arm].mean()
        residuals = np.bincount(member[arm], weights=outcome[arm] - mean)
        difference += sign * mean
        variance += float((residuals**2).sum()) / arm.sum() ** 2
    return bool(abs(difference) > Z * np.sqrt(variance))


def test_a_unit_of_customer_and_pass_keeps_its_promise(visits: tuple[Ints, NDArray[np.float64]]) -> None:
    """The design of the replayer: within three standard errors of 5 %."""
    rate = _false_alarms(visits, unit_has_pass=True, clusters="customer and pass")
    assert rate <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / SALTS)


def test_the_same_unit_in_every_pass_is_valid_only_when_counted_once(
    visits: tuple[Ints, NDArray[np.float64]],
) -> None:
    once = _false_alarms(visits, unit_has_pass=False, clusters="customer")
    assert once <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / SALTS)
    counted_as_new = _false_alarms(visits, unit_has_pass=False, clusters="customer and pass")
    assert counted_as_new > 3 * ALPHA


def test_counting_visits_as_independent_is_wrong_in_any_case(visits: tuple[Ints, NDArray[np.float64]]) -> None:
    assert _false_alarms(visits, unit_has_pass=False, clusters="visit") > 4 * ALPHA
    assert _false_alarms(visits, unit_has_pass=True, clusters="visit") > 1.5 * ALPHA
