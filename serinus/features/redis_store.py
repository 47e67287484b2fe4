"""Feast's Redis layout: read for predictions, and loaded from a day's snapshot as a whole.

Invariant: the bytes are those that Feast's own materialization writes; a read is one transaction, and a load goes live
by one command, so a request sees one state of the store.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mmh3
import redis

from serinus.core.errors import Unavailable
from serinus.features.online import StoredRow, Wanted

TIMEOUT_SECONDS = 0.25
_CHUNK = 2_000
# Outside of Feast's keys, which begin with the number of their parts.
_DAY = "serinus:snapshot"


class RedisStore:
    """`RawStore` over Redis. `address` is redis://host:port/db."""

    def __init__(self, address: str, project: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._client: Any = connect(address, timeout)
        self._address, self._project = address, project.encode()

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """One round trip for all views: every entity has one hash, shared by its views."""
        plans = [(one, _fields(one.view.name, tuple(f.name for f in one.view.features))) for one in wanted]
        try:
            with self._client.pipeline(transaction=True) as pipe:
                for one, fields in plans:
                    for key in one.keys:
                        pipe.hmget(key + self._project, fields)
                answers = iter(pipe.execute())
        except redis.RedisError as fault:
            raise Unavailable(
                f"the online store at {_shown(self._address)} does not answer",
                cause=f"{type(fault).__name__}: {fault}",
                hint="requests are answered with defaults meanwhile",
            ) from fault
        return [_rows(one, answers) for one, _ in plans]


class RedisLoader:
    """Loads a snapshot beside the live database and swaps them."""

    def __init__(self, address: str, project: str) -> None:
        self._live: Any = connect(address, 30.0)
        self._project = project.encode()
        number = int(self._live.connection_pool.connection_kwargs.get("db", 0))
        self._numbers = (number, number + 1)
        # A database in the address would win over one given beside it.
        self._aside: Any = connect(urlsplit(address)._replace(path=f"/{number + 1}").geturl(), 30.0)

    def load(self, snapshot: Path) -> None:
        """Interrupted anywhere, loading again comes to the same end. Raises `Unavailable`."""
        mark = f"{snapshot.parent.name}/{snapshot.name}".encode()
        try:
            if self._live.get(_DAY) != mark:
                self._aside.flushdb()
                for chunk in _chunks(snapshot, self._project):
                    with self._aside.pipeline(transaction=False) as pipe:
                        for key, values in chunk.items():
                            pipe.hset(key, mapping=values)
                        pipe.execute()
                self._aside.set(_DAY, mark)
                self._live.swapdb(*self._numbers)
            self._aside.flushdb()
        except redis.RedisError as fault:
            raise Unavailable("the online store cannot be loaded", cause=f"{type(fault).__name__}: {fault}") from fault


def connect(address: str, timeout: float) -> Any:  # noqa: ANN401 - redis-py has no useful types
    """A client that fails fast and connects anew with the next call."""
    try:
        return redis.Redis.from_url(address, socket_timeout=timeout, socket_connect_timeout=timeout)
    except ValueError as fault:
        raise Unavailable(f"{_shown(address)} is not an address of Redis", cause=str(fault)) from fault


@lru_cache(maxsize=256)
def _fields(view: str, features: tuple[str, ...]) -> list[bytes]:
    """The names of a view's features in the hash, then that of its event time."""
    return [struct.pack("<I", mmh3.hash(f"{view}:{one}", signed=False)) for one in features] + [f"_ts:{view}".encode()]


def _rows(one: Wanted, answers: Iterator[list[bytes | None]]) -> dict[bytes, StoredRow]:
    found, names = {}, [feature.name for feature in one.view.features]
    for key in one.keys:
        *values, stamp = next(answers)
        if stamp is not None:
            stored = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            found[key] = StoredRow(stored, float(_seconds(stamp)))
    return found


def _chunks(snapshot: Path, project: bytes) -> Iterator[dict[bytes, dict[bytes, bytes]]]:
    """The snapshot's rows as hashes by key; a key comes in as many chunks as it has views."""
    prefix = f"{project.decode()}_"
    with closing(sqlite3.connect(f"{snapshot.absolute().as_uri()}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for table in (name for name in tables if name.startswith(prefix)):
            view = table.removeprefix(prefix)
            hashes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
            query = f'SELECT entity_key, feature_name, value, event_ts FROM "{table}" ORDER BY entity_key'  # noqa: S608
            for key, feature, value, event in db.execute(query):
                if len(hashes) >= _CHUNK and key + project not in hashes:
                    yield hashes
                    hashes = defaultdict(dict)
                name, stamp = _fields(view, (feature,))
                hashes[key + project] |= {name: value, stamp: _timestamp(int(event))}
            yield hashes


def _timestamp(seconds: int) -> bytes:
    """google.protobuf.Timestamp with whole seconds."""
    return b"\x08" + _varint(seconds & (2**64 - 1)) if seconds else b""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _seconds(stamp: bytes) -> int:
    """The seconds of a Timestamp; Feast writes no fractions here."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return int(Timestamp.FromString(stamp).seconds)


def _shown(address: str) -> str:
    """Without a password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
