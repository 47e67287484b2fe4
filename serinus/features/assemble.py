"""From recorded requests to a batch: one point-in-time lookup for each distinct (id, day), shared by all its rows.

Invariant: looking up distinct pairs and expanding gives every row what a lookup of its own would have given, because
stored features change at midnight only (D11, D13).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serinus.features.batch import Batch, Ints, Side

DAY_US = 86_400_000_000


class HistoricalSource(Protocol):
    """Point-in-time retrieval of a feature service, one side at a time."""

    def entity_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """Features of entities as of the midnight that begins each day; ids as the problem gives them."""

    def item_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """The same for items."""


def assemble(
    requests: pd.DataFrame,
    rows: pd.DataFrame,
    source: HistoricalSource,
    *,
    with_items: bool,
    context_names: Sequence[str] = (),
) -> Batch:
    """The batch of `rows` (columns request, item), in their order; `requests` as in `serinus.features.dataset`.

    `context_names` are columns of `requests`: what the requests themselves carried.
    """
    as_of = requests["as_of"].to_numpy().astype("datetime64[us]")
    day = as_of.astype("datetime64[D]")
    of_row = rows["request"].to_numpy()
    entity, entity_row = _lookup(requests["entity"].to_numpy(dtype=object), day, source.entity_side)
    item, item_row = None, np.zeros(len(rows), dtype=np.int64)
    if with_items:
        item, item_row = _lookup(rows["item"].to_numpy(dtype=object), day[of_row], source.item_side)
    seconds = as_of.astype(np.int64) / 1e6
    context = {name: requests[name].to_numpy(dtype=np.float64)[of_row] for name in context_names}
    return Batch(entity, item, entity_row[of_row], item_row, seconds[of_row], context)


class _Find(Protocol):
    def __call__(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side: ...


def _lookup(ids: NDArray[np.object_], days: NDArray[np.datetime64], find: _Find) -> tuple[Side, Ints]:
    """The side of the distinct (id, day) pairs, and for each input the row of it."""
    codes, names = pd.factorize(ids, sort=True)
    pair = codes.astype(np.int64) * 1_000_000 + days.astype(np.int64)
    known, row = np.unique(pair, return_inverse=True)
    side = find(names[known // 1_000_000], (known % 1_000_000).astype("datetime64[D]"))
    return side, row.astype(np.int64)
