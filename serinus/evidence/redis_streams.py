"""The event log of the cluster, its writing side: rows go to Redis Streams, from where a collector moves them to files.

Invariant: acknowledged is on disk: Redis answers an XADD after its append-only file was synced, and a Redis that is not
set to do so is refused with every new connection. One call is one entry, so its rows come together or not at all. What
reads here trims nothing that it has not been told to, and never past it. pyarrow is not imported: a predictor has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AskError
from redis.retry import Retry

from serinus.core.addresses import shown
from serinus.core.errors import Unavailable
from serinus.core.events import Event, Stream
from serinus.core.names import ServiceRef
from serinus.evidence.entries import Entry, encoded

# An fsync on a busy disk takes a while; a writer that waits keeps nobody waiting.
TIMEOUT_SECONDS = 2.0
# A service's keys; and those of the release before, where services had no namespace.
KEYS, KEYS_BEFORE = "serinus:events:{{{service}}}", "serinus:events:{service.name}"
# With these an answered XADD is on disk and stays: what acknowledges otherwise is refused.
DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
# Entries hold up to some MB each, and most a few KB: a page of the largest must fit into a small collector.
_PAGE = 4


class _NotDurable(redis.RedisError):
    """It would acknowledge what is not on disk."""


class RedisStreams:
    """The streams of one service, all in one slot. `address` is redis://host:port/db, or rediss over TLS; `durable`
    refuses one that does not sync; `keys` are those of this release, or `KEYS_BEFORE`.

    Every method raises `Unavailable` for whatever keeps Redis from doing it: nobody there, no answer in time, no memory
    left, no right to.
    """

    def __init__(
        self,
        address: str,
        service: ServiceRef,
        *,
        durable: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        keys: str = KEYS,
    ) -> None:
        self._client: Any = _client(address, timeout, durable)
        self._address, self._prefix = address, keys.format(service=service)

    def add(self, stream: Stream, fields: Mapping[str, bytes]) -> None:
        """Returns when the entry is on disk. After an error it may be there all the same."""
        with self._asked(f"the event log cannot take {stream.value}"):
            self._client.xadd(self._key(stream), fields)

    def read(self, stream: Stream, after: str = "", most_bytes: int = 1) -> tuple[list[Entry], bool]:
        """Entries from the oldest on, a page more than `most_bytes` at most; and whether there may be others."""
        found: list[Entry] = []
        size = 0
        with self._asked(f"the event log of {stream.value} cannot be read"):
            while size < most_bytes:
                start = f"({found[-1].id if found else after}" if found or after else "-"
                page = self._client.xrange(self._key(stream), min=start, count=_PAGE)
                found += [Entry(name.decode(), fields) for name, fields in page]
                size += sum(one.size for one in found[len(found) - len(page) :])
                if len(page) < _PAGE:
                    return found, False
        return found, True

    def find(self, stream: Stream, name: str) -> Entry | None:
        """One entry, or None when it was drained."""
        with self._asked(f"the event log of {stream.value} cannot be read"):
            found = self._client.xrange(self._key(stream), min=name, max=name)
        return Entry(name, found[0][1]) if found else None

    def trim(self, stream: Stream, through: str) -> None:
        """Drops the entries up to one, and that one."""
        moment, _, number = through.partition("-")
        with self._asked(f"the event log of {stream.value} cannot be trimmed"):
            self._client.xtrim(self._key(stream), minid=f"{moment}-{int(number) + 1}", approximate=False)

    def waiting(self, stream: Stream) -> int:
        """Entries that were not trimmed."""
        with self._asked(f"the event log of {stream.value} cannot be counted"):
            return int(self._client.xlen(self._key(stream)))

    def _key(self, stream: Stream) -> str:
        return f"{self._prefix}:{stream.value}"

    @contextmanager
    def _asked(self, headline: str) -> Iterator[None]:
        try:
            yield
        except _NotDurable as fault:
            hint = "set " + ", ".join(f"{name} {value}" for name, value in DURABLE.items()) + ", and allow CONFIG GET"
            raise Unavailable(headline, cause=f"{shown(self._address)}: {fault}", hint=hint) from fault
        except redis.RedisError as fault:
            hint = "what was not acknowledged must be sent again"
            if isinstance(fault, AskError):
                hint = "it is a node of a cluster; an event log takes a Redis of its own"
            cause = f"{shown(self._address)}: {type(fault).__name__}: {fault}"
            raise Unavailable(headline, cause=cause, hint=hint) from fault


class RedisEventSink:
    """`EventSink` for one service."""

    def __init__(self, address: str, service: ServiceRef, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self.streams = RedisStreams(address, service, durable=True, timeout=timeout)

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """See `EventSink`."""
        if events:
            self.streams.add(stream, encoded(stream, events))


def _client(address: str, timeout: float, durable: bool) -> Any:  # noqa: ANN401 - redis-py has no useful types
    """Fails fast, and connects anew with the next call: who repeats what, and when, is not for a library to say."""
    options: dict[str, Any] = {"redis_connect_func": _require_durable} if durable else {}
    try:
        client = redis.Redis.from_url(
            address, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), **options
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # an unknown option is told now, not by the first call
        return client
    except (ValueError, TypeError) as fault:
        raise Unavailable(f"{shown(address)} is not an address of Redis", cause=str(fault)) from fault


def _require_durable(connection: Any) -> None:  # noqa: ANN401 - redis-py has no useful types
    """With every connection: a Redis that was restarted may have come back with other settings."""
    connection.on_connect()
    wrong = []
    for name, wanted in DURABLE.items():
        connection.send_command("CONFIG", "GET", name)
        try:
            found = connection.read_response()
        except redis.ResponseError as fault:
            raise _NotDurable(f"whether it syncs cannot be seen, CONFIG GET is refused: {fault}") from fault
        # A list in Redis's older protocol, a map in its newer one.
        values = list(found.values()) if isinstance(found, dict) else found[1::2]
        if values != [wanted.encode()]:
            wrong.append(f"{name} is {b' '.join(values).decode() or 'unknown'}")
    if wrong:
        raise _NotDurable("it acknowledges what is not on disk: " + ", ".join(wrong))
