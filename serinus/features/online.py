"""Reads Feast's online store in its own layout: what a predictor looks up, without Feast and without pandas.

Invariant: the values are those of Feast's client; expiry is applied here, because Feast ignores it online, and against
the same lookup time as offline. One read sees one state of the store. The layout (entity keys, tables) is that of
serialization version 3.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from serinus.core.errors import Unavailable
from serinus.core.names import problem_of
from serinus.features.batch import Column, Ragged, Side
from serinus.features.clock import lookup_time
from serinus.features.fitting import fitted
from serinus.features.keys import key_of
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo
from serinus.features.value_proto import decode, decode_fixed

# Unfit: found, with a number that no model input can hold, which is therefore missing.
Status = Literal["found", "missing", "expired", "unfit"]
_KEY_TYPES = {"STRING": 2, "INT32": 3, "INT64": 4}
_MAPPED_BYTES = 1 << 30
_CHUNK = 500
# What Feast writes for a null time: pandas' NaT as an integer, not a null.
_NOT_A_TIME = -(2**63)


@dataclass(frozen=True)
class StoredRow:
    """One entity's row of a view: raw values by feature, and its event time (epoch seconds)."""

    values: Mapping[str, bytes]
    event_time: float


@dataclass(frozen=True)
class Wanted:
    """Rows of one view, by entity key."""

    view: ViewInfo
    keys: Sequence[bytes]


class RawStore(Protocol):
    """Fetches stored bytes; one implementation a backend, decoding is shared."""

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """For each view the rows of the keys that exist, all from one state of the store. Raises `Unavailable`."""


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
        return self.read_together({entity: ids}, as_of)[entity]

    def read_together(self, ids: Mapping[str, Sequence[str]], as_of: datetime) -> dict[str, Lookup]:
        """The same for several entities at once: what one request needs."""
        views = [view for entity in ids for view in self._service.of_entity(entity)]
        keys = {view.name: [entity_key(view, one) for one in ids[view.entity]] for view in views}
        wanted = [Wanted(view, [key for key in dict.fromkeys(keys[view.name]) if key is not None]) for view in views]
        found = dict(zip(keys, self._store.fetch(wanted), strict=True))
        rows = {name: [None if key is None else found[name].get(key) for key in asked] for name, asked in keys.items()}
        moment = lookup_time(as_of).timestamp()
        return {entity: self._lookup(entity, ids[entity], rows, moment) for entity in ids}

    def nothing(self, ids: Mapping[str, Sequence[str]]) -> dict[str, Lookup]:
        """What a read gives when no id has a row: for requests that go on while the store cannot be reached."""
        return {
            entity: self._lookup(
                entity, asked, {view.name: [None] * len(asked) for view in self._service.of_entity(entity)}, 0.0
            )
            for entity, asked in ids.items()
        }

    def _lookup(
        self, entity: str, ids: Sequence[str], stored: Mapping[str, list[StoredRow | None]], moment: float
    ) -> Lookup:
        columns: dict[str, Column] = {}
        status: dict[str, tuple[Status, ...]] = {}
        times: dict[str, tuple[float, ...]] = {}
        for view in self._service.of_entity(entity):
            rows = stored[view.name]
            states = [_status(row, view, moment) for row in rows]
            times[view.name] = tuple(row.event_time if row else float("nan") for row in rows)
            valid = [row if state == "found" else None for row, state in zip(rows, states, strict=True)]
            for feature in view.features:
                column, unfit = fitted(_column(feature, valid))
                columns[f"{view.name}:{feature.name}"] = column
                for place in np.flatnonzero(unfit) if unfit is not None else ():
                    states[place] = "unfit"
            status[view.name] = tuple(states)
        return Lookup(Side(np.array(list(ids), dtype=object), columns), status, times)


class SqliteStore:
    """Feast's SQLite online store, opened for reading only.

    Each thread keeps its connection until the file is replaced: materialization renames a new one over it, and a
    connection goes on seeing the file that it opened.
    """

    def __init__(self, path: Path, project: str) -> None:
        self._path, self._project = path, project
        self._held = _Held()

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """One query a view, or one for every few hundred keys. Raises `Unavailable` when there is no such store."""
        try:
            db = self._connection()
            return [_fetch(db, f"{self._project}_{one.view.name}", one.keys) for one in wanted]
        except (OSError, sqlite3.Error) as fault:
            missing = isinstance(fault, FileNotFoundError)
            raise Unavailable(
                f"no online store of {self._project} yet" if missing else f"{self._path} cannot be read",
                cause=f"{self._path} does not exist" if missing else str(fault),
                hint=f"`serinus features materialize {problem_of(self._project)}` makes it",
            ) from fault

    def _connection(self) -> sqlite3.Connection:
        seen = self._path.stat()
        file = (seen.st_dev, seen.st_ino, seen.st_mtime_ns)
        if self._held.db is None or self._held.file != file:
            self._held.db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            # Pages from the system's cache, without a call and a copy each: the file is replaced, never changed.
            self._held.db.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
            self._held.file = file
        return self._held.db


class _Held(threading.local):
    db: sqlite3.Connection | None = None
    file: tuple[int, int, int] = (0, 0, 0)


def _fetch(db: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> dict[bytes, StoredRow]:
    values: dict[bytes, dict[str, bytes]] = {}
    times: dict[bytes, int] = {}  # epoch seconds: Feast cuts off what is finer
    for chunk in _chunks(keys):
        query = (
            f'SELECT entity_key, feature_name, value, event_ts FROM "{table}" '  # noqa: S608
            f"WHERE entity_key IN ({','.join('?' * len(chunk))})"
        )
        last: bytes | None = None
        row: dict[str, bytes] = {}
        for key, feature, value, event in db.execute(query, chunk):
            if key != last:  # the rows of a key follow each other: they are found by the primary key
                last, row = key, values.setdefault(key, {})
                times[key] = event
            row[feature] = value
    return {key: StoredRow(found, float(times[key])) for key, found in values.items()}


def entity_key(view: ViewInfo, value: str) -> bytes | None:
    """Feast's key of one entity; None when the id cannot be a key of this view's type."""
    kind = _KEY_TYPES[view.key_type]
    name = view.join_key.encode()
    if kind == _KEY_TYPES["STRING"]:
        data = value.encode()
    else:
        try:
            data = struct.pack("<q" if view.key_type == "INT64" else "<i", key_of(view.key_type, value))
        except ValueError:
            return None
    head = struct.pack("<III", 1, _KEY_TYPES["STRING"], len(name)) + name
    return head + struct.pack("<II", kind, len(data)) + data


def _status(row: StoredRow | None, view: ViewInfo, moment: float) -> Status:
    if row is None:
        return "missing"
    return "expired" if view.ttl_seconds and moment - row.event_time > view.ttl_seconds else "found"


def _column(feature: FeatureInfo, rows: list[StoredRow | None]) -> Column:
    stored = [None if row is None else row.values.get(feature.name) for row in rows]
    numbers = decode_fixed(stored, feature.type)
    if numbers is not None:
        return numbers
    values = list(map(decode, stored))
    if feature.type.startswith("Array"):
        return _ragged(values, text=feature.type == "Array(String)")
    if feature.type == "String":
        return np.array(values, dtype=object)
    null = _NOT_A_TIME if feature.type == "UnixTimestamp" else None
    return np.array([np.nan if value is None or value == null else value for value in values], dtype=np.float64)


def _ragged(values: list[Any], *, text: bool) -> Ragged:
    lists = [value or [] for value in values]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)])
    flat = [element for one in lists for element in one]
    return Ragged(np.array(flat, dtype=object if text else np.float64), offsets)


def _chunks(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
