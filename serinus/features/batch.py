"""A batch: what was looked up for some rows, in columns, before any transform.

The same shape holds one request of 100 candidates (serving) and a million rows of a training set, so one definition
of a transform serves both. Invariant: a value that is unknown, null or expired is NaN (numbers, times), None (text)
or an empty list, never zero; defaults are applied by the transforms alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Objects: TypeAlias = NDArray[np.object_]


@dataclass(frozen=True)
class Ragged:
    """A list-valued column: row i holds `values[offsets[i]:offsets[i + 1]]`; a null list is an empty one."""

    values: Floats | Objects
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> Ints:
        """Elements in each row."""
        return np.diff(self.offsets)

    def take(self, rows: Ints) -> Ragged:
        """The lists of `rows`, in that order."""
        lengths = self.lengths()[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[:-1][rows], lengths) + within], offsets)


Column: TypeAlias = Floats | Objects | Ragged


@dataclass(frozen=True)
class Side:
    """The looked-up rows of one kind of entity. Columns are named `view:feature`; times are epoch seconds (UTC)."""

    ids: Objects
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """n rows to score: row i pairs entity `entity_row[i]` with item `item_row[i]` at `as_of[i]` (epoch seconds).

    `context` holds the values that the requests themselves carried, one a row, NaN where none was given.
    `item` is None for problems of kind `scoring`; then `item_row` is all zeros and never read.
    """

    entity: Side
    item: Side | None
    entity_row: Ints
    item_row: Ints
    as_of: Floats
    context: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entity_row)

    def rows(self, keep: Ints) -> Batch:
        """The same looked-up values, for some of the rows only."""
        context = {name: values[keep] for name, values in self.context.items()}
        return Batch(self.entity, self.item, self.entity_row[keep], self.item_row[keep], self.as_of[keep], context)
