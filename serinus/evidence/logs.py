"""Event logs by their addresses: the one place that knows which schemes there are.

Invariant: whoever writes or drains an event log gets it here; pyarrow is imported only for a folder, and Redis only for
an address of Redis. What an address leads to keeps what it acknowledges, or is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from serinus.core.addresses import by_scheme, path_of, scheme_of, shown
from serinus.core.errors import UsageError
from serinus.core.names import ServiceRef
from serinus.core.ports import EventSink

if TYPE_CHECKING:
    from serinus.evidence.redis_streams import RedisStreams

FILES = ("", "file")
_SERVERS, _CLUSTERS = ("redis", "rediss"), ("redis+cluster", "rediss+cluster")
# Of an entry of some MB.
_DRAIN_TIMEOUT = 10.0


def sink_of(address: str, service: ServiceRef, writer: str) -> EventSink:
    """Where rows of a service are written: below a folder, or in Redis, from where a collector moves them to one.

    Raises `UsageError` for a scheme that is not known, or that would not keep what it acknowledges.
    """
    return by_scheme(_SINKS, address, "an event log")(address, service, writer)


def waiting_in(address: str, service: ServiceRef) -> tuple[RedisStreams, RedisStreams]:
    """What waits in Redis for a collector: under the keys of the release before, and under those of this one.

    Raises `UsageError` like `sink_of`.
    """
    return by_scheme(_SOURCES, address, "an event log that is drained")(address, service)


def in_folder(address: str) -> bool:
    """Whether an address is that of a folder."""
    return scheme_of(address) in FILES


def _folder(address: str, service: ServiceRef, writer: str) -> EventSink:  # noqa: ARG001 - the folder is the service's
    from serinus.evidence.parquet_log import ParquetEventLog

    return ParquetEventLog(path_of(address), writer=writer)


def _redis(address: str, service: ServiceRef, writer: str) -> EventSink:  # noqa: ARG001 - rows carry it
    from serinus.evidence.redis_streams import RedisEventSink

    return RedisEventSink(address, service)


def _streams(address: str, service: ServiceRef) -> tuple[RedisStreams, RedisStreams]:
    from serinus.evidence.redis_streams import KEYS_BEFORE, RedisStreams

    # Durable or not: what is there already is safer in files.
    before = RedisStreams(address, service, timeout=_DRAIN_TIMEOUT, keys=KEYS_BEFORE)
    return before, RedisStreams(address, service, timeout=_DRAIN_TIMEOUT)


def _refused(address: str, *_: object) -> NoReturn:
    raise UsageError(
        f"{shown(address)} is no place for an event log",
        cause="a replica of a cluster that takes over may lack what was acknowledged",
        hint="give it a Redis of its own, redis://host:port/db, that syncs each write",
    )


_SINKS: dict[str, Callable[[str, ServiceRef, str], EventSink]] = {
    **dict.fromkeys(FILES, _folder),
    **dict.fromkeys(_SERVERS, _redis),
    **dict.fromkeys(_CLUSTERS, _refused),
}
_SOURCES: dict[str, Callable[[str, ServiceRef], tuple[RedisStreams, RedisStreams]]] = {
    **dict.fromkeys(_SERVERS, _streams),
    **dict.fromkeys(_CLUSTERS, _refused),
}
