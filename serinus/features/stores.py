"""Online stores by their addresses: the one place that knows which schemes there are.

Invariant: whoever reads or loads an online store gets it here; Redis is imported only for an address of Redis.
"""

from __future__ import annotations

from collections.abc import Callable

from serinus.core.addresses import by_scheme, path_of
from serinus.features.online import RawStore, SqliteStore
from serinus.features.snapshots import Loader, SqliteLoader

# What a request waits for Redis.
TIMEOUT_SECONDS = 0.25
_LOAD_TIMEOUT = 30.0
_THING = "an online store"
# For whoever writes another type into Feast's configuration.
SQLITE_ONLY = (
    "online_store of Feast's configuration has type sqlite and a path; an address of Redis is `online` of the profile "
    "in serinus.toml, or SERINUS_ONLINE"
)


def store_of(address: str, project: str, *, timeout: float = TIMEOUT_SECONDS) -> RawStore:
    """What reads the store at an address, for a Feast project. Raises `UsageError` for a scheme that is not known."""
    return by_scheme(_STORES, address, _THING)(address, project, timeout)


def loader_of(address: str, project: str) -> Loader:
    """What loads it. Raises `UsageError` for a scheme that is not known."""
    return by_scheme(_LOADERS, address, _THING)(address, project)


def _sqlite(address: str, project: str, timeout: float) -> RawStore:  # noqa: ARG001 - a file answers or is not there
    return SqliteStore(path_of(address), project)


def _redis(address: str, project: str, timeout: float) -> RawStore:
    from serinus.features.redis_client import RedisClient
    from serinus.features.redis_store import RedisStore

    return RedisStore(RedisClient(address, timeout), project)


def _into_sqlite(address: str, project: str) -> Loader:  # noqa: ARG001 - the snapshot is the project's
    return SqliteLoader(path_of(address))


def _into_redis(address: str, project: str) -> Loader:
    from serinus.features.redis_client import RedisClient
    from serinus.features.redis_loader import RedisLoader

    return RedisLoader(RedisClient(address, _LOAD_TIMEOUT), project)


_FILES = ("", "sqlite")
_SERVERS = ("redis", "rediss", "redis+cluster", "rediss+cluster")
_STORES: dict[str, Callable[[str, str, float], RawStore]] = {
    **dict.fromkeys(_FILES, _sqlite),
    **dict.fromkeys(_SERVERS, _redis),
}
_LOADERS: dict[str, Callable[[str, str], Loader]] = {
    **dict.fromkeys(_FILES, _into_sqlite),
    **dict.fromkeys(_SERVERS, _into_redis),
}
