"""Which outcome belongs to which exposure.

Invariant: an outcome counts for an exposure when it happened and arrived within the window that ends `seconds` after
the exposure's event time; so the verdict on it does not depend on when someone looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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


class Places:
    """Where each text stands in a table. Looking some up takes the same time however long the table is."""

    def __init__(self, texts: pa.ChunkedArray, rows: Ints) -> None:
        """`rows`: the position of each text in its table."""
        code = codes(texts)
        order = np.argsort(code, kind="stable")
        self._codes = {text: number for number, text in enumerate(pc.unique(texts).to_pylist())}
        self._first = np.searchsorted(code[order], np.arange(len(self._codes) + 1))
        self._rows = rows[order]

    def pairs(self, exposures: pa.ChunkedArray) -> Pairs:
        """All pairs of equal text, by exposure."""
        code = np.array([self._codes.get(one, -1) for one in exposures.to_pylist()], dtype=np.int64)
        found = np.flatnonzero(code >= 0)
        first = self._first[code[found]]
        counts = self._first[code[found] + 1] - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return Pairs(np.repeat(found, counts), self._rows[np.repeat(first, counts) + within])


@dataclass(frozen=True)
class Outcomes:
    """All outcomes of a reduction, looked up once for every chunk of exposures."""

    table: pa.Table

    @cached_property
    def of_requests(self) -> Places:
        """Outcomes that name a request."""
        named = np.flatnonzero(pc.not_equal(self.table["request_id"], "").to_numpy(zero_copy_only=False))
        return Places(self.table["request_id"].take(pa.array(named)), named)

    @cached_property
    def of_units(self) -> Places:
        """Outcomes that name none."""
        loose = np.flatnonzero(pc.equal(self.table["request_id"], "").to_numpy(zero_copy_only=False))
        return Places(self.table["unit"].take(pa.array(loose)), loose)

    def called(self, name: str, pairs: Pairs) -> Pairs:
        """The pairs whose outcome has that name."""
        names = self.table["name"].take(pa.array(pairs.outcome))
        return pairs.where(pc.equal(names, name).to_numpy(zero_copy_only=False))


def by_request(exposures: pa.Table, outcomes: Outcomes) -> Pairs:
    """Outcomes that name a request, with every exposure of it (a shadow has two)."""
    return outcomes.of_requests.pairs(exposures["request_id"])


def by_unit(exposures: pa.Table, outcomes: Outcomes, seconds: float) -> Pairs:
    """Outcomes without a request, with the exposures of their unit in the `seconds` before them."""
    pairs = outcomes.of_units.pairs(exposures["unit"])
    waited = column(outcomes.table, "as_of")[pairs.outcome] - column(exposures, "as_of")[pairs.exposure]
    return pairs.where((waited > 0) & (waited <= seconds))


def in_time(pairs: Pairs, exposures: pa.Table, outcomes: Outcomes, seconds: float) -> Bools:
    """For each pair whether the outcome happened and arrived before the exposure closed."""
    closes = column(exposures, "as_of")[pairs.exposure] + seconds
    happened, arrived = column(outcomes.table, "as_of")[pairs.outcome], column(outcomes.table, "at")[pairs.outcome]
    return np.asarray((happened <= closes) & (arrived <= closes))


def column(table: pa.Table, name: str) -> Floats:
    """A number column as float64."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def codes(texts: pa.ChunkedArray) -> Ints:
    """A number for each distinct text, in order of first appearance."""
    return np.asarray(texts.combine_chunks().dictionary_encode().indices.to_numpy(), dtype=np.int64)


def is_in(values: pa.ChunkedArray | pa.Array, known: pa.ChunkedArray | pa.Array) -> Bools:
    """For each value whether it is among the known ones."""
    return np.asarray(pc.is_in(values, value_set=known).to_numpy(zero_copy_only=False), dtype=np.bool_)
