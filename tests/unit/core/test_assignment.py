"""Buckets: prefixes that only grow, a tail that stays, and regular expressions that match their set, nothing else."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.client.bucket import BUCKETS as CLIENT_BUCKETS
from serinus.core.assignment import (
    BUCKETS,
    MOST_LISTED,
    canary_buckets,
    hold_back_buckets,
    mirrored_buckets,
    permutation,
    places,
    regex_of,
    smaller_arm,
)
from serinus.core.words import Arm

ALL = tuple(f"{bucket:03d}" for bucket in range(BUCKETS))
# Seen by gateways: too short, too long, no digits, joined repeats of a header, other scripts' digits.
JUNK = ("", "1", "12", "0123", "1234", "01a", "a12", " 12", "012,345", "012,", "-12", "+12", "٠١٢", "012 ")
SETS = st.sets(st.integers(0, BUCKETS - 1), min_size=1, max_size=MOST_LISTED)
SEEDS = st.integers(0, 2**64 - 1)
FIRST_OF_SEED_7 = (821, 437, 162, 265, 354, 675, 27, 129)


def _matched(pattern: str) -> set[int]:
    found = re.compile(pattern)
    # `search`, as the gateways that do not match whole values do; a stray match of junk would be one more.
    assert not [text for text in JUNK if found.search(text)]
    return {int(text) for text in ALL if found.search(text)}


def test_an_order_is_one_of_all_buckets_and_stays() -> None:
    """A change of the order would move users of running rollouts: it must be deliberate."""
    order = permutation(7)
    assert sorted(order) == list(range(BUCKETS))
    assert order[:8] == FIRST_OF_SEED_7
    assert permutation(8) != order
    assert [places(7)[bucket] for bucket in order] == list(range(BUCKETS))


def test_client_and_core_have_the_same_number_of_buckets() -> None:
    assert CLIENT_BUCKETS == BUCKETS


def test_seeds_share_no_more_than_chance() -> None:
    """10 % of the buckets are the canary's; two seeds agree in 10 of 100 on average, standard deviation 2.85."""
    first = [set(canary_buckets(seed, 10, 0)) for seed in range(60)]
    shared = [len(a & b) for a, b in pairwise(first)]
    assert sum(shared) / len(shared) == pytest.approx(10, abs=4 * 2.85 / len(shared) ** 0.5)


@given(SEEDS, st.integers(0, 5), st.data())
@settings(max_examples=30)
def test_more_weight_only_adds_and_never_reaches_the_hold_back(seed: int, hold_back: int, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, 100 - hold_back)] * 2)))
    fewer, more = canary_buckets(seed, low, hold_back), canary_buckets(seed, high, hold_back)
    assert len(fewer) == low * 10
    assert more[: len(fewer)] == fewer
    assert not set(more) & set(hold_back_buckets(seed, hold_back))


def test_at_promotion_all_but_the_tail_are_the_canary() -> None:
    promoted, tail = canary_buckets(3, 99, 1), hold_back_buckets(3, 1)
    assert len(tail) == 10
    assert set(promoted) | set(tail) == set(range(BUCKETS))
    assert smaller_arm(3, 99, 1) == (Arm.STABLE, tuple(sorted(tail)))
    assert hold_back_buckets(3, 0) == ()


def test_what_is_mirrored_is_a_prefix_too() -> None:
    assert mirrored_buckets(3, 0.2) == canary_buckets(3, 20, 1)
    assert len(mirrored_buckets(3, 1.0)) == BUCKETS
    with pytest.raises(ValueError, match=r"1\.2"):
        mirrored_buckets(3, 1.2)


@pytest.mark.parametrize("weight", [-1, 100, 101])
def test_a_weight_that_would_take_the_hold_back_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="hold-back of 1"):
        canary_buckets(3, weight, 1)


@pytest.mark.parametrize(("weight", "arm", "listed"), [(1, "canary", 10), (50, "canary", 500), (51, "stable", 490)])
def test_the_smaller_arm_is_listed(weight: int, arm: str, listed: int) -> None:
    which, buckets = smaller_arm(11, weight, 1)
    assert (which, len(buckets)) == (arm, listed)
    assert (set(buckets) == set(canary_buckets(11, weight, 1))) is (which is Arm.CANARY)


@given(SETS)
@settings(max_examples=60)
def test_a_regex_matches_its_set_and_nothing_else(buckets: set[int]) -> None:
    assert _matched(regex_of(buckets)) == buckets


@given(SETS)
@settings(max_examples=60)
def test_re2_agrees(buckets: set[int]) -> None:
    """The engine of Envoy and of Go, by full match as Envoy does."""
    re2 = pytest.importorskip("re2")
    found = re2.compile(regex_of(buckets))
    assert {int(text) for text in ALL if found.fullmatch(text)} == buckets
    assert not [text for text in JUNK if found.fullmatch(text)]


def test_every_bucket_alone() -> None:
    assert all(_matched(regex_of([bucket])) == {bucket} for bucket in range(0, BUCKETS, 7))
    assert regex_of([7]) == "^(?:007)$"


@pytest.mark.parametrize(
    ("buckets", "pattern"),
    [
        ([10, 11, 12, 13, 20], "^(?:0(?:1[0-3]|20))$"),
        ([1, 2, 101, 102, 201, 202], "^(?:[0-2]0[12])$"),
        (range(300, 400), "^(?:3[0-9][0-9])$"),
        ([5, 15, 905], "^(?:0[01]5|905)$"),
    ],
)
def test_equal_tails_and_neighbours_are_shared(buckets: list[int], pattern: str) -> None:
    assert regex_of(buckets) == pattern


@pytest.mark.parametrize("weight", [1, 5, 10, 25, 50, 75, 99])
def test_the_regex_of_200_seeds_is_exact_and_short(weight: int) -> None:
    for seed in range(200):
        buckets = smaller_arm(seed, weight, 1)[1]
        pattern = regex_of(buckets)
        assert len(pattern) < 1024
        if seed % 20 == 0:
            assert _matched(pattern) == set(buckets)


def test_the_worst_sets_are_still_short() -> None:
    """Nothing to share: every pair of first digits has digits of its own, no three in a row."""
    fives = ("02468", "13579", "02479", "13568", "02579", "13468", "02569", "12478", "01368", "03579")
    worst = [int(f"{a}{b}{digit}") for a in range(10) for b in range(10) for digit in fives[(a * 7 + b * 3) % 10]]
    assert len(worst) == MOST_LISTED
    assert len(regex_of(worst)) < 1024
    assert _matched(regex_of(worst)) == set(worst)


@pytest.mark.parametrize("buckets", [[], range(501), [1000], [-1]])
def test_what_no_route_can_list_is_refused(buckets: list[int]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        regex_of(buckets)
