"""Reading and loading Redis by generation and pointer: `python benchmarks/redis_store.py [--quick]`.

Peers are the shortest ways to the same rows with redis-py, and what Serinus did before it had generations. Reading:
one transaction of HMGETs; on a cluster, which has none across slots, a pipeline. Loading: HSETs into a database beside,
then SWAPDB; on a cluster, which has neither, over what is there. What is read must be equal.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis
from _bench import finish, timed

sys.path.insert(0, str(Path(__file__).parents[1]))
from serinus.features.online import StoredRow, Wanted, entity_key
from serinus.features.redis_keys import fields
from serinus.features.redis_loader import CHUNK, chunks
from serinus.features.service import FeatureInfo, ViewInfo
from serinus.features.stores import loader_of, store_of
from tests.redis_kinds import RedisKind, redis_kind

ITEMS, CUSTOMERS, DAY = 20_000, 5_000, 1_700_000_000
LOADS, CALLS, QUICK_CALLS = 3, 2_000, 20


def view(name: str, entity: str, features: int) -> ViewInfo:
    """A view of float32 numbers."""
    infos = tuple(FeatureInfo(name=f"f{number}", type="Float32") for number in range(features))
    return ViewInfo(name=name, entity=entity, join_key=entity, key_type="STRING", ttl_seconds=0, features=infos)


ITEM, CUSTOMER = view("item_daily", "item", 15), view("customer_profile", "customer", 23)


def main(arguments: list[str]) -> None:
    """A server and a cluster of three, all on this machine."""
    quick = "--quick" in arguments
    calls, size = (QUICK_CALLS, 20) if quick else (CALLS, 1)
    rows: list[tuple[str, str, float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        days = [snapshot(Path(scratch) / f"mark/{day}.db", day, size) for day in range(LOADS + 1)]
        for kind in ("plain", "cluster"):
            folder = Path(scratch) / kind
            folder.mkdir()
            with redis_kind(kind, folder) as server:
                rows += loading(server, days) + reading(server, calls)
    entities = (ITEMS + CUSTOMERS) // size
    finish("redis_store", rows, {"rows": "equal", "entities": entities, "redis": "on this machine"})


def snapshot(path: Path, day: int, size: int) -> Path:
    """Every item and customer, in Feast's SQLite layout."""
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    for one, count in ((ITEM, ITEMS), (CUSTOMER, CUSTOMERS)):
        table = f'"bench_{one.name}"'
        db.execute(
            f"CREATE TABLE {table} (entity_key BLOB, feature_name TEXT, value BLOB, event_ts INT, "
            "PRIMARY KEY (entity_key, feature_name))"
        )
        for number in range(count // size):
            values = [
                (key(one, number), info.name, b"\x35" + struct.pack("<f", number + day + place), DAY)
                for place, info in enumerate(one.features)
            ]
            db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", values)
    db.commit()
    db.close()
    return path


def key(one: ViewInfo, number: int) -> bytes:
    """Of the number-th entity."""
    found = entity_key(one, f"{one.entity}{number}")
    assert found is not None
    return found


def loading(server: RedisKind, days: list[Path]) -> list[tuple[str, str, float, float]]:
    """Seconds for a day; the first fills an empty store. Taking turns, the best of each."""
    loader, before = loader_of(server.address, "bench"), Before(server)
    ours, theirs = [], []
    for day in days:
        ours.append(timed(partial(loader.load, day))[1])
        theirs.append(timed(partial(before.load, day))[1])
    return [(f"{server.kind}: load of a day", "s", min(ours[1:]), min(theirs[1:]))]


def reading(server: RedisKind, calls: int) -> list[tuple[str, str, float, float]]:
    """One request: a customer and 100 items; taking turns."""
    store, before = store_of(server.address, "bench", timeout=30.0), Before(server)
    wanted = [Wanted(CUSTOMER, [key(CUSTOMER, 7)]), Wanted(ITEM, [key(ITEM, number) for number in range(100)])]
    ours: Callable[[], list[dict[bytes, StoredRow]]] = partial(store.fetch, wanted)
    assert [{k: dict(row.values) for k, row in rows.items()} for rows in ours()] == before.fetch(wanted)
    times = np.array([[timed(run)[1] * 1e3 for run in (ours, partial(before.fetch, wanted))] for _ in range(calls)])
    figures = {"p50_ms": np.quantile(times, 0.5, axis=0), "p99_ms": np.quantile(times, 0.99, axis=0)}
    return [(f"{server.kind}: 1 customer, 100 items", what, *map(float, pair)) for what, pair in figures.items()]


class Before:
    """The peer."""

    def __init__(self, server: RedisKind) -> None:
        port, self._cluster = server.servers[0].port, server.kind == "cluster"
        self._live: Any = redis.RedisCluster("127.0.0.1", port) if self._cluster else redis.Redis(port=port, db=2)
        self._aside: Any = self._live if self._cluster else redis.Redis(port=port, db=3)

    def load(self, day: Path) -> None:
        """Chunk by chunk."""
        for hashes in chunks(day, "bench", CHUNK):
            with self._aside.pipeline(transaction=not self._cluster) as pipe:
                for one, values in hashes.items():
                    pipe.hset(one + b"bench", mapping=dict(values))
                pipe.execute()
        if not self._cluster:
            self._live.swapdb(2, 3)
            self._aside.flushdb(asynchronous=True)

    def fetch(self, wanted: list[Wanted]) -> list[dict[bytes, dict[str, bytes]]]:
        """Values by feature."""
        with self._live.pipeline(transaction=not self._cluster) as pipe:
            for one in wanted:
                names = fields(one.view.name, tuple(info.name for info in one.view.features))
                for entity in one.keys:
                    pipe.hmget(entity + b"bench", names)
            answers = iter(pipe.execute())
        infos = [[info.name for info in one.view.features] for one in wanted]
        return [
            {entity: dict(zip(names, next(answers), strict=False)) for entity in one.keys}
            for one, names in zip(wanted, infos, strict=True)
        ]


if __name__ == "__main__":
    main(sys.argv[1:])
