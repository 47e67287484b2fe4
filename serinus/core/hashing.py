"""Stable pseudo-random numbers from row ids, for sampling that any machine and any part of the data repeats (D20).

Invariant: the number of a row is a function of (seed, id) alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: U64) -> U64:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    with np.errstate(over="ignore"):
        z = values + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def combine(left: U64, right: U64) -> U64:
    """One number from two, order mattering; broadcasts."""
    with np.errstate(over="ignore"):
        return mix(mix(left) ^ (right * _GOLDEN))


def text_keys(texts: NDArray[np.str_]) -> U64:
    """A 64-bit key of each text, by FNV-1a over its code points (short ids: a handful of passes, no Python loop)."""
    width = texts.dtype.itemsize // 4
    points = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), width) if width else None
    keys = np.full(len(texts), 0xCBF29CE484222325, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in range(width if points is not None else 0):
            assert points is not None  # noqa: S101 - narrows the type
            point = points[:, column].astype(np.uint64)
            keys = np.where(point > 0, (keys ^ point) * np.uint64(0x100000001B3), keys)
    return keys


def uniform(keys: U64) -> NDArray[np.float64]:
    """Numbers in (0, 1), one a key."""
    return ((mix(keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
