"""Feast's Redis layout: read for predictions, and loaded from a day's snapshot as a whole.

Invariant: the bytes are those that Feast's own materialization writes; a read is one transaction, and a load goes live
by one, so a request sees one state of the store. A load writes nothing beside another one, and empties no database that
holds somebody else's keys.
"""

from __future__ import annotations

import sqlite3
import struct
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import mmh3
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serinus.core.addresses import shown
from serinus.core.errors import Conflict, Unavailable, UsageError
from serinus.features.online import StoredRow, Wanted

TIMEOUT_SECONDS = 0.25
_CHUNK = 2_000
_LOAD_TIMEOUT = 30.0
# Outside of Feast's keys, which begin with the number of their parts.
_DAY = "serinus:snapshot"  # in the live database: what it holds
_LOADING = "serinus:loading"  # in the one beside it: the load that writes there


class RedisStore:
    """`RawStore` over Redis. `address` is redis://host:port/db."""

    def __init__(self, address: str, project: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._client: Any = connect(address, timeout)
        self._address, self._project = address, project.encode()

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """One round trip and one command an entity: its hash is shared by its views. Raises `Unavailable`."""
        plans = [(one, _fields(one.view.name, tuple(f.name for f in one.view.features))) for one in wanted]
        asked: dict[bytes, list[bytes]] = defaultdict(list)
        for one, fields in plans:
            for key in one.keys:
                asked[key] += fields
        try:
            with self._client.pipeline(transaction=True) as pipe:
                for key, fields in asked.items():
                    pipe.hmget(key + self._project, fields)
                answers = {key: iter(found) for key, found in zip(asked, pipe.execute(), strict=True)}
        except redis.RedisError as fault:
            raise Unavailable(
                f"the online store at {shown(self._address)} does not answer",
                cause=f"{type(fault).__name__}: {fault}",
                hint="requests are answered with defaults meanwhile",
            ) from fault
        return [_rows(one, answers) for one, _ in plans]


class RedisLoader:
    """Loads a snapshot beside the live database, then swaps them. `address` names the live one; the next is taken too.

    Of two loads at once the one that began last ends; the other is told.
    """

    def __init__(self, address: str, project: str) -> None:
        self._live: Any = connect(address, _LOAD_TIMEOUT)
        self._address, self._project = address, project.encode()
        pool = self._live.connection_pool
        number = int(pool.connection_kwargs.get("db") or 0)
        self._numbers = (number, number + 1)
        # From the pool, not from the address, which can name its database in more than one place.
        options = pool.connection_kwargs | {"db": number + 1}
        self._aside: Any = redis.Redis(
            connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options)
        )

    def load(self, snapshot: Path) -> None:
        """Interrupted anywhere, loading again comes to the same end.

        Raises `Unavailable`, `Conflict` when another load took over, `UsageError` for databases that are not ours.
        """
        mark = self._project + f"/{snapshot.parent.name}/{snapshot.name}".encode()
        try:
            if self._live.get(_DAY) != mark:
                self._fill(snapshot, mark, uuid.uuid4().bytes)
        except redis.WatchError as fault:
            hint = "run this again when the other one has ended"
            raise Conflict(f"another load of {shown(self._address)} took over", hint=hint) from fault
        except redis.RedisError as fault:
            raise Unavailable(
                f"the online store at {shown(self._address)} cannot be loaded",
                cause=f"{type(fault).__name__}: {fault}",
                hint="it needs the database of its address and the next one",
            ) from fault

    def _fill(self, snapshot: Path, mark: bytes, token: bytes) -> None:
        self._begin(token)
        for chunk in _chunks(snapshot, self._project):
            with self._step(token) as pipe:
                for key, values in chunk.items():
                    pipe.hset(key, mapping=values)
        with self._step(token) as pipe:
            pipe.set(_DAY, mark)
            pipe.delete(_LOADING)
            pipe.swapdb(*self._numbers)
            pipe.flushdb(asynchronous=True)  # what was live until now

    def _begin(self, token: bytes) -> None:
        """Empties what a load that died left behind, and nothing else."""
        live = self._live.get(_DAY)
        ours = live.startswith(self._project + b"/") if live else not self._live.dbsize()
        self._require(ours, self._numbers[0])
        with self._aside.pipeline() as pipe:
            pipe.watch(_LOADING)
            self._require(bool(pipe.exists(_LOADING)) or not pipe.dbsize(), self._numbers[1])
            pipe.multi()
            pipe.flushdb(asynchronous=True)
            pipe.set(_LOADING, token)
            pipe.execute()

    def _require(self, ours: bool, number: int) -> None:
        if not ours:
            raise UsageError(
                f"database {number} of {shown(self._address)} holds what no load of {self._project.decode()} wrote",
                cause="loading would delete it",
                hint="give this online store two databases of its own, one after the other, or empty them",
            )

    @contextmanager
    def _step(self, token: bytes) -> Iterator[Any]:
        """Commands sent as one transaction, refused once another load has begun."""
        with self._aside.pipeline() as pipe:
            pipe.watch(_LOADING)
            if pipe.get(_LOADING) != token:
                raise redis.WatchError
            pipe.multi()
            yield pipe
            pipe.execute()


def connect(address: str, timeout: float) -> Any:  # noqa: ANN401 - redis-py has no useful types
    """A client that fails fast and connects anew with the next call."""
    try:
        return redis.Redis.from_url(
            address, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as fault:
        raise Unavailable(f"{shown(address)} is not an address of Redis", cause=str(fault)) from fault


@lru_cache(maxsize=256)
def _fields(view: str, features: tuple[str, ...]) -> list[bytes]:
    """The names of a view's features in the hash, then that of its event time."""
    return [struct.pack("<I", mmh3.hash(f"{view}:{one}", signed=False)) for one in features] + [f"_ts:{view}".encode()]


def _rows(one: Wanted, answers: Mapping[bytes, Iterator[bytes | None]]) -> dict[bytes, StoredRow]:
    """Takes the view's share of each answer: the views of an entity follow each other there as they were asked."""
    found, names = {}, [feature.name for feature in one.view.features]
    for key in one.keys:
        *values, stamp = islice(answers[key], len(names) + 1)
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


@lru_cache(maxsize=4096)  # rows share few times: they are midnights
def _seconds(stamp: bytes) -> int:
    """The seconds of a Timestamp; Feast writes no fractions here."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return int(Timestamp.FromString(stamp).seconds)
