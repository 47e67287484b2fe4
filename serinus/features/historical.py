"""Point-in-time features of one side, as columns of a batch: what a training set looks up.

Invariant: one row for each (id, day) asked, in order; looked up at the midnight that begins the day, as online.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from serinus.core.errors import DataError, UsageError
from serinus.features.batch import Side
from serinus.features.keys import TEXT, fault_of, key_of, require_keys
from serinus.features.service import ServiceInfo, ViewInfo
from serinus.features.sides import to_column

_TIMESTAMP = "event_timestamp"


class HistoricalFeatures:
    """`HistoricalSource` of a feature service: one retrieval a side.

    `retrieve` takes references `view:feature` and rows of a key and `event_timestamp`, and gives those rows with a
    column `view__feature` for each.
    """

    def __init__(
        self,
        retrieve: Callable[[list[str], pd.DataFrame], pa.Table],
        service: ServiceInfo,
        entity: str,
        item: str | None,
    ) -> None:
        self._retrieve, self._service, self._entity, self._item = retrieve, service, entity, item

    def entity_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """See `HistoricalSource`."""
        return self._side(self._entity, ids, days)

    def item_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """See `HistoricalSource`."""
        if self._item is None:
            raise DataError("this problem has no items")
        return self._side(self._item, ids, days)

    def _side(self, entity: str, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        views = self._service.of_entity(entity)
        if not views:
            raise UsageError(f"feature service {self._service.name} has no view of entity {entity}")
        key = views[0].join_key
        # Whole days, whatever was given: the rule of `lookup_time`.
        stamps = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[us]")).tz_localize("UTC")
        rows = pd.DataFrame({key: _typed(ids, views[0]), _TIMESTAMP: stamps})
        refs = [f"{view.name}:{one.name}" for view in views for one in view.features]
        table = self._retrieve(refs, rows)
        if len(table) != len(rows):
            raise DataError(
                f"feature retrieval gave {len(table)} rows for {len(rows)}", hint="use Serinus' offline store"
            )
        columns = {ref: to_column(table[ref.replace(":", "__")]) for ref in refs}
        return Side(np.asarray([str(one) for one in ids], dtype=object), columns)


def _typed(ids: NDArray[np.object_], view: ViewInfo) -> pd.Series:
    """Keys in the type of the view; text for strings, integers otherwise."""
    distinct = dict.fromkeys(ids)
    if view.key_type == TEXT:
        require_keys("the rows to look up", view.entity, TEXT, distinct)
    wrong = [f"{one!r:.60}: {fault}" for one in distinct if (fault := fault_of(view.key_type, one))]
    if wrong:
        hint = "declare the key as STRING otherwise"
        raise DataError(f"ids of {view.entity} must be whole numbers", cause="; ".join(wrong[:3]), hint=hint)
    typed = {one: key_of(view.key_type, one) for one in distinct}
    return pd.Series([typed[one] for one in ids], dtype=object if view.key_type == TEXT else "int64")
