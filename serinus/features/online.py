"""Reads Feast's online store in its own layout: what a predictor looks up, without Feast and without pandas.

Invariant: the values are those of Feast's client; expiry is applied here, because Feast ignores it online, and against
the same lookup time as offline. The layout (entity keys, tables) is that of serialization version 3.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from serinus.core.errors import Unavailable
from serinus.features.batch import Column, Ragged, Side
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo
from serinus.features.sides import lookup_time
from serinus.features.value_proto import decode

Status = Literal["found", "missing", "expired"]
_KEY_TYPES = {"STRING": 2, "INT32": 3, "INT64": 4}
_CHUNK = 500
# What Feast writes for a null time: pandas' NaT as an integer, not a null.
_NOT_A_TIME = -(2**63)


@dataclass(frozen=True)
class StoredRow:
    """One entity's row of a view: raw values by feature, and its event time (epoch seconds)."""

    values: Mapping[str, bytes]
    event_time: float


class RawStore(Protocol):
    """Fetches stored bytes; one implementation a backend, decoding is shared."""

    def fetch(self, view: str, keys: Sequence[bytes]) -> dict[bytes, StoredRow]:
        """The rows of the keys that exist."""


@dataclass(frozen=True)
class Lookup:
    """A side with, for each view, every row's status and event time (NaN where missing)."""

    side: Side
    status: Mapping[str, tuple[Status, ...]]
    event_times: Mapping[str, tuple[float, ...]]


class OnlineReader:
    """Looks up the views of one feature service."""

    def __init__(self, store: RawStore, service: ServiceInfo) -> None:
        self._store, self._service = store, service

    def read(self, entity: str, ids: Sequence[str], as_of: datetime) -> Lookup:
        """All views of an entity for some ids, as of the midnight that begins the day of `as_of`."""
        moment = lookup_time(as_of).timestamp()
        columns: dict[str, Column] = {}
        status: dict[str, tuple[Status, ...]] = {}
        times: dict[str, tuple[float, ...]] = {}
        for view in self._service.of_entity(entity):
            rows = self._rows(view, ids)
            status[view.name] = tuple(_status(row, view, moment) for row in rows)
            times[view.name] = tuple(row.event_time if row else float("nan") for row in rows)
            valid = [row if state == "found" else None for row, state in zip(rows, status[view.name], strict=True)]
            for feature in view.features:
                columns[f"{view.name}:{feature.name}"] = _column(feature, valid)
        return Lookup(Side(np.array(list(ids), dtype=object), columns), status, times)

    def _rows(self, view: ViewInfo, ids: Sequence[str]) -> list[StoredRow | None]:
        keys = [entity_key(view, one) for one in ids]
        found = self._store.fetch(view.name, sorted({key for key in keys if key is not None}))
        return [None if key is None else found.get(key) for key in keys]


class SqliteStore:
    """Feast's SQLite online store, opened for reading only."""

    def __init__(self, path: Path, project: str) -> None:
        self._path, self._project = path, project

    def fetch(self, view: str, keys: Sequence[bytes]) -> dict[bytes, StoredRow]:
        """One query for every few hundred keys. Raises `Unavailable` when there is no store."""
        if not self._path.exists():
            raise Unavailable(
                f"no online store of {self._project} yet",
                cause=f"{self._path} does not exist",
                hint=f"`serinus features materialize {self._project}` makes it",
            )
        values: dict[bytes, dict[str, bytes]] = {}
        times: dict[bytes, float] = {}
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
            for chunk in _chunks(keys):
                marks = ",".join("?" * len(chunk))
                query = (
                    f'SELECT entity_key, feature_name, value, event_ts FROM "{self._project}_{view}" '  # noqa: S608
                    f"WHERE entity_key IN ({marks})"
                )
                for key, feature, value, event in db.execute(query, chunk):
                    values.setdefault(key, {})[feature] = value
                    times[key] = _seconds(event)
        return {key: StoredRow(found, times[key]) for key, found in values.items()}


def entity_key(view: ViewInfo, value: str) -> bytes | None:
    """Feast's key of one entity; None when the id cannot be a key of this view's type."""
    kind = _KEY_TYPES[view.key_type]
    name = view.join_key.encode()
    if kind == _KEY_TYPES["STRING"]:
        data = value.encode()
    else:
        try:
            data = struct.pack("<q" if view.key_type == "INT64" else "<i", int(value))
        except (ValueError, struct.error):
            return None
    head = struct.pack("<III", 1, _KEY_TYPES["STRING"], len(name)) + name
    return head + struct.pack("<II", kind, len(data)) + data


def _status(row: StoredRow | None, view: ViewInfo, moment: float) -> Status:
    if row is None:
        return "missing"
    return "expired" if view.ttl_seconds and moment - row.event_time > view.ttl_seconds else "found"


def _column(feature: FeatureInfo, rows: list[StoredRow | None]) -> Column:
    values = [None if row is None else decode(row.values.get(feature.name)) for row in rows]
    if feature.type.startswith("Array"):
        return _ragged(values, text=feature.type == "Array(String)")
    if feature.type == "String":
        return np.array(values, dtype=object)
    return np.array([np.nan if value is None or value == _NOT_A_TIME else value for value in values], dtype=np.float64)


def _ragged(values: list[Any], *, text: bool) -> Ragged:
    lists = [value or [] for value in values]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)])
    flat = [element for one in lists for element in one]
    return Ragged(np.array(flat, dtype=object if text else np.float64), offsets)


def _seconds(stored: str | float) -> float:
    """Feast stores event times as text in UTC without a zone."""
    if isinstance(stored, int | float):
        return float(stored)
    moment = datetime.fromisoformat(stored)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
