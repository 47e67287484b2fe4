"""What a reduction joins exposures with: the side table of scores; and the columns that come of it.

Invariant: it holds no more than it needs: scores of a few segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.events import Stream, Use, columns
from serinus.evidence.log import EventLog, Segment
from serinus.evidence.matching import is_in
from serinus.evidence.rows import SCHEMAS, schema_of

# A request retried within this time is recognized as one.
RETRY_SECONDS = 86_400.0
# Scores may wait for an exposure that a kill kept from coming; as many as one run reads at a time are enough.
MOST_LEFT = 10_000
# What KPI rows say of an exposure; and beside it what KPIs are made of, which is kept until the last one closes.
KEPT = columns(Stream.EXPOSURES, Use.KPI)
JOINED = tuple(one for one in columns(Stream.EXPOSURES) if one.uses & {Use.KPI, Use.OPEN})
# Of the side table, under the names that they have beside an exposure's own.
SHOWN = {"items_shown": "items", "probabilities": "probabilities"}
LISTS = {name: SCHEMAS[Stream.SCORES].field(source).type for name, source in SHOWN.items()}
OPEN_SCHEMA = pa.schema([*schema_of(JOINED), *LISTS.items(), ("closed_groups", pa.int64())])


def no_open_rows() -> pa.Table:
    """An empty table with the columns of an exposure that is still open."""
    return OPEN_SCHEMA.empty_table()


def kpi_schema(kpis: Sequence[str]) -> pa.Schema:
    """Of KPI rows: `KEPT`, window (seconds), closed_at (event time of the reduction), and a number a KPI column."""
    numbers = ("window", "closed_at", *kpis)
    return pa.schema([*schema_of(KEPT), *((name, pa.float64()) for name in numbers)])


class ScoresInStep:
    """The side table, read in step with the exposures that need it.

    A predictor writes scores before their exposures: a run that comes in between hands them on to the next as `held`.
    """

    def __init__(self, log: EventLog, segments: list[Segment], held: pa.Table | None) -> None:
        self._log, self._segments = log, list(segments)
        self._held = held

    def left(self, seen: set[int]) -> pa.Table:
        """The last `MOST_LEFT` scores whose exposures have not come, by the hashes of the ids that have."""
        while self._segments:
            self._read_next()
            self._held = self._unasked(seen)
        return self._unasked(seen)

    def _unasked(self, seen: set[int]) -> pa.Table:
        if self._held is None:
            return pa.table({})
        keep = [hash(one) not in seen for one in self._held["id"].to_pylist()]
        return self._held.filter(pa.array(keep, type=pa.bool_()))[-MOST_LEFT:]

    def _read_next(self) -> None:
        table = self._log.read(self._segments.pop(0))
        self._held = table if self._held is None else pa.concat_tables([self._held, table])

    def join(self, exposures: pa.Table) -> pa.Table:
        """Exposures with items and probabilities as shown; empty lists where a request failed."""
        answered = exposures["id"].filter(pc.equal(exposures["error"], ""))
        while self._segments and not self._complete(answered):
            self._read_next()
        lists = {name: pa.array([[]] * len(exposures), type=kind) for name, kind in LISTS.items()}
        if self._held is not None:
            at = pc.index_in(exposures["id"], value_set=self._held["id"])
            for name, source in SHOWN.items():
                taken = self._held[source].take(at).combine_chunks()
                lists[name] = pc.fill_null(taken, pa.scalar([], type=LISTS[name])) if taken.null_count else taken
            self._held = self._held.filter(pc.invert(pc.is_in(self._held["id"], value_set=exposures["id"])))
        table = exposures.select([one.name for one in JOINED])
        for name, one in lists.items():
            table = table.append_column(name, one.cast(LISTS[name]))
        return table.append_column("closed_groups", pa.array(np.zeros(len(table), dtype=np.int64)))

    def _complete(self, ids: pa.ChunkedArray) -> bool:
        enough = self._held is not None and len(self._held) >= len(ids)
        return self._held is not None and enough and bool(is_in(ids, self._held["id"]).all())
