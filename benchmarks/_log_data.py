"""The event log of benchmarks/event_log.py: requests of 60 days with 100 items each, and what was bought.

Invariant: a function of (size, seed) alone. Some rows are sent twice, and some outcomes come late, as in life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from serinus.core.events import Exposure, Outcome, Scores, Stream
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.rows import SCHEMAS

Row = TypeVar("Row")
DAY, START, DAYS = 86_400.0, 1_317_600_000.0, 60
ITEMS, CATALOGUE = 100, 3001  # a prime: any stride visits each item once
UNITS = 20_000
REQUEST_ROWS, OUTCOME_ROWS = 2_000, 1_000  # the writer's batch, and the largest batch of the collector
REPEATED, LATE, LOOSE = 0.002, 0.01, 0.2
CODES = pa.array([f"{20_000 + one}" for one in range(CATALOGUE)])


@dataclass(frozen=True)
class Size:
    """Rows of a log; outcomes of two kinds together."""

    exposures: int
    outcomes: int

    @property
    def end(self) -> float:
        """Event time at which the log ends: half of its exposures have their window of thirty days still open."""
        return START + (DAYS + 1) * DAY


@dataclass(frozen=True)
class Part:
    """Some requests: when, by whom, and their items as positions in the catalogue, in the order shown."""

    first: int
    at: np.ndarray
    unit: np.ndarray
    items: np.ndarray
    odds: np.ndarray


def fill(log: ParquetEventLog, size: Size) -> None:
    """Writes the whole log, a batch a segment."""
    every = max(size.exposures // size.outcomes, 1)
    step = DAYS * DAY / size.exposures
    waiting: list[pa.Table] = []
    for first in range(0, size.exposures, REQUEST_ROWS):
        count = min(REQUEST_ROWS, size.exposures - first)
        waiting += [put(log, first, START + step * (first + np.arange(count)), every)]
        if sum(map(len, waiting)) >= OUTCOME_ROWS or first + count == size.exposures:
            log.append_table(Stream.OUTCOMES, pa.concat_tables(waiting))
            waiting = []


def one_more(log: ParquetEventLog, size: Size) -> float:
    """One segment of each stream at the end of the log; the event time at which it is reduced."""
    at = size.end + np.arange(REQUEST_ROWS) * 10.0
    log.append_table(Stream.OUTCOMES, put(log, size.exposures, at, every=10))
    return size.end + DAY


def put(log: ParquetEventLog, first: int, at: np.ndarray, every: int) -> pa.Table:
    """Writes scores and exposures of some requests; their outcomes are given back."""
    rng = np.random.default_rng([20111209, first])
    part = _part(rng, first, at)
    log.append_table(Stream.SCORES, scores(part))
    log.append_table(Stream.EXPOSURES, _repeated(rng, exposures(part)))
    return _repeated(rng, outcomes(rng, part, every))


def _part(rng: np.random.Generator, first: int, at: np.ndarray) -> Part:
    count = len(at)
    start, stride = rng.integers(0, CATALOGUE, (count, 1)), rng.integers(1, CATALOGUE, (count, 1))
    odds = -np.sort(-(rng.random((count, ITEMS)) ** 6), axis=1)
    return Part(first, at, rng.integers(0, UNITS, count), (start + stride * np.arange(ITEMS)) % CATALOGUE, odds)


def exposures(part: Part) -> pa.Table:
    """Rows as a predictor writes them."""
    count, numbers = len(part.at), part.first + np.arange(len(part.at))
    units = [f"{one}" for one in part.unit]
    columns = {
        "id": [f"r{one}@retail-v1" for one in numbers], "request_id": [f"r{one}" for one in numbers],
        "service": ["default/retail"] * count, "revision": ["retail-v1"] * count, "version": ["1"] * count,
        "route": [""] * count, "forced_arm": [""] * count, "entity": units, "unit": units, "bucket": part.unit % 1000,
        "bucket_check": ["ok"] * count, "at": part.at, "as_of": part.at, "items": [ITEMS] * count,
        "cold_start": part.unit % 20 == 0, "unknown_items": [0] * count, "lookups": [303] * count,
        "defaulted": [0] * count, "latency_ms": 3.0 + part.unit % 53, "error": [""] * count,
        "covariates": [[float(one % 7)] for one in part.unit], "writer": ["retail-v1"] * count, "sequence": numbers,
    }  # fmt: skip
    return pa.table(columns, schema=SCHEMAS[Stream.EXPOSURES])


def scores(part: Part) -> pa.Table:
    """The side table."""
    count, numbers = len(part.at), part.first + np.arange(len(part.at))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * ITEMS)
    columns = [
        pa.array([f"r{one}@retail-v1" for one in numbers]),
        pa.array([f"r{one}" for one in numbers]),
        pa.ListArray.from_arrays(offsets, CODES.take(pa.array(part.items.ravel()))),
        pa.ListArray.from_arrays(offsets, pa.array(part.odds.ravel())),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[Stream.SCORES])


def outcomes(rng: np.random.Generator, part: Part, every: int) -> pa.Table:
    """One for each `every` requests: an item bought within hours, some after its day, or a visit later in the month."""
    count = len(part.at) // every
    who = np.sort(rng.choice(len(part.at), count, replace=False))
    loose, late = rng.random(count) < LOOSE, rng.random(count) < LATE
    waited = np.where(loose, 29 * DAY, 3_600.0) * rng.random(count) + 1.0
    happened = part.at[who] + waited
    place = np.minimum(rng.geometric(0.05, count) - 1, ITEMS - 1)
    bought = CODES.take(pa.array(part.items[who, place])).to_pylist()
    columns = {
        "id": [f"o{part.first + one}" for one in who],
        "name": np.where(loose, "visit", "bought").tolist(),
        "request_id": ["" if free else f"r{part.first + one}" for one, free in zip(who, loose, strict=True)],
        "unit": [f"{one}" for one in part.unit[who]],
        "item": ["" if free else item for item, free in zip(bought, loose, strict=True)],
        "value": np.round(rng.gamma(1.0, 20.0, count), 2), "as_of": happened,
        "at": happened + np.where(late, 2 * DAY, 1.0),
    }  # fmt: skip
    return pa.table(columns, schema=SCHEMAS[Stream.OUTCOMES])


def _repeated(rng: np.random.Generator, table: pa.Table) -> pa.Table:
    """With a few rows sent again."""
    again = np.flatnonzero(rng.random(len(table)) < REPEATED)
    return pa.concat_tables([table, table.take(pa.array(again))])


def shown(count: int) -> list[tuple[Exposure, Scores]]:
    """The first rows as the predictor holds them before it writes."""
    part = _part(np.random.default_rng(1), 0, START + np.arange(count, dtype=np.float64))
    return list(zip(_events(Exposure, exposures(part)), _events(Scores, scores(part)), strict=True))


def happened(count: int) -> list[Outcome]:
    """The first outcomes as the collector holds them."""
    rng = np.random.default_rng(2)
    return list(_events(Outcome, outcomes(rng, _part(rng, 0, START + np.arange(count, dtype=np.float64)), every=1)))


def _events(kind: type[Row], table: pa.Table) -> Iterator[Row]:
    for row in table.to_pylist():
        yield kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in row.items()})
