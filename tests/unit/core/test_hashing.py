"""Hash draws are uniform, stable, and a property of the row alone."""

from __future__ import annotations

import numpy as np

from serinus.core.hashing import combine, mix, text_keys, uniform


def test_keys_do_not_depend_on_the_company_they_are_in() -> None:
    alone = text_keys(np.array(["12347-201101261430"]))
    among = text_keys(np.array(["a", "12347-201101261430", "much-longer-than-the-others-0123456789"]))
    assert alone[0] == among[1]


def test_known_values_stay() -> None:
    """A change of the hash would change every sample: it must be deliberate."""
    assert text_keys(np.array(["a"]))[0] == 0xAF63DC4C8601EC8C  # FNV-1a of "a", published
    assert mix(np.array([0], dtype=np.uint64))[0] == 0xE220A8397B1DCDAF  # first output of splitmix64, seed 0


def test_draws_are_uniform() -> None:
    draws = uniform(text_keys(np.array([f"row-{i}" for i in range(20_000)])))
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert draws.min() > 0
    assert draws.max() < 1
    # Chi-square with 19 degrees of freedom: 43.8 is passed by chance once in a thousand.
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 43.8


def test_combining_is_ordered() -> None:
    a, b = np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint64)
    assert combine(a, b)[0] != combine(b, a)[0]


def test_no_text_has_a_key_too() -> None:
    assert len(text_keys(np.array([], dtype="<U1"))) == 0
    assert text_keys(np.array([""])).shape == (1,)
