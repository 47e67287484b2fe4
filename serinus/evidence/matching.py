"""Which outcome belongs to which exposure.

Invariant: an outcome counts for an exposure when it happened and arrived within the window that ends `seconds` after
the exposure's event time; so the verdict on it does not depend on when someone looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Pair i joins exposure `exposure[i]` with outcome `outcome[i]`, by position in their tables."""

    exposure: Ints
    outcome: Ints

    def where(self, keep: Bools) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.exposure[keep], self.outcome[keep])

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(np.concatenate([self.exposure, other.exposure]), np.concatenate([self.outcome, other.outcome]))


def by_request(exposures: pa.Table, outcomes: pa.Table) -> Pairs:
    """Outcomes that name a request, with every exposure of it (a shadow has two)."""
    named = np.flatnonzero(pc.not_equal(outcomes["request_id"], "").to_numpy(zero_copy_only=False))
    asked = outcomes["request_id"].take(pa.array(named))
    return _join(exposures["request_id"], asked, named)


def by_unit(exposures: pa.Table, outcomes: pa.Table, seconds: float) -> Pairs:
    """Outcomes without a request, with the exposures of their unit in the `seconds` before them."""
    loose = np.flatnonzero(pc.equal(outcomes["request_id"], "").to_numpy(zero_copy_only=False))
    pairs = _join(exposures["unit"], outcomes["unit"].take(pa.array(loose)), loose)
    waited = column(outcomes, "as_of")[pairs.outcome] - column(exposures, "as_of")[pairs.exposure]
    return pairs.where((waited > 0) & (waited <= seconds))


def in_time(pairs: Pairs, exposures: pa.Table, outcomes: pa.Table, seconds: float) -> Bools:
    """For each pair whether the outcome happened and arrived before the exposure closed."""
    closes = column(exposures, "as_of")[pairs.exposure] + seconds
    happened, arrived = column(outcomes, "as_of")[pairs.outcome], column(outcomes, "at")[pairs.outcome]
    return np.asarray((happened <= closes) & (arrived <= closes))


def column(table: pa.Table, name: str) -> Floats:
    """A number column as float64."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def codes(texts: pa.ChunkedArray) -> Ints:
    """A number for each distinct text, in order of first appearance."""
    return np.asarray(texts.combine_chunks().dictionary_encode().indices.to_numpy(), dtype=np.int64)


def is_in(values: pa.ChunkedArray, known: pa.ChunkedArray | pa.Array) -> Bools:
    """For each value whether it is among the known ones."""
    return np.asarray(pc.is_in(values, value_set=known).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _join(left: pa.ChunkedArray, right: pa.ChunkedArray, right_rows: Ints) -> Pairs:
    """All pairs of equal text; `right_rows` are the positions of `right` in its table."""
    if len(left) == 0 or len(right) == 0:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
    names = pc.unique(right)
    left_code = pc.fill_null(pc.index_in(left, value_set=names), -1).to_numpy().astype(np.int64)
    right_code = pc.index_in(right, value_set=names).to_numpy().astype(np.int64)
    order = np.argsort(left_code, kind="stable")
    first = np.searchsorted(left_code[order], right_code, "left")
    last = np.searchsorted(left_code[order], right_code, "right")
    counts = last - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return Pairs(order[np.repeat(first, counts) + within], np.repeat(right_rows, counts))
