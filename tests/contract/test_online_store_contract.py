"""What every online store must do: the same reads, one state a request, days forward and back, faults that pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/features"))
from feast_repo import TYPES, make_store, row

from serinus.core.errors import Unavailable, UsageError
from serinus.features.batch import Ragged
from serinus.features.feast_store import FeastStore
from serinus.features.online import OnlineReader, RawStore, SqliteStore
from serinus.features.redis_client import RedisClient
from serinus.features.redis_keys import Keys, generation_of
from serinus.features.snapshots import Earlier, FeatureClock, Loader, SqliteLoader
from serinus.features.stores import loader_of, store_of
from tests.redis_kinds import KINDS, RedisKind, redis_kind
from tests.servers import PATIENT_SECONDS, redis_server

# Real systems are the second part of `make test`.
pytestmark = pytest.mark.slow

DAY_5 = datetime(2024, 1, 6, 12, tzinfo=UTC)
DAY_8 = DAY_5 + timedelta(days=3)
MANY = 3_000


@pytest.fixture(scope="module")
def feast(tmp_path_factory: pytest.TempPathFactory) -> FeastStore:
    """Sources over ten days: every type, nulls, empty lists, expiry, int and text keys."""
    store = make_store(tmp_path_factory.mktemp("feast"))
    nulls = dict.fromkeys(TYPES)
    users = [row("user", 1, 0, 1), row("user", 1, 4, 2), row("user", 1, 8, 20), row("user", -2, 8, 3)]
    users += [row("user", 3, 1, 5, **nulls), row("user", 4, 1, 0, f32=np.nan, f64=np.nan, f32s=[], texts=[])]
    things = [row("thing", "a", 5, 6), row("thing", "b", 2, 7), row("thing", "old", 1, 8), row("thing", "ü", 7, 9)]
    things += [row("thing", f"t{number}", 5, number) for number in range(MANY)]
    store.write_source("users", pd.DataFrame(users))
    store.write_source("things", pd.DataFrame(things))
    store.apply()
    return store


@pytest.fixture(scope="module", params=KINDS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisKind]:
    with redis_kind(request.param, tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def redis_up(started: RedisKind) -> RedisKind:
    started.clear()
    return started


def _at(address: str, feast: FeastStore, snapshots: Path) -> Online:
    store = store_of(address, "toy", timeout=PATIENT_SECONDS)
    return Online(feast, snapshots, loader_of(address, "toy"), store)


class Online:
    """A store with its clock and a reader of it."""

    def __init__(self, feast: FeastStore, snapshots: Path, loader: Loader, raw: RawStore) -> None:
        self.clock = FeatureClock(snapshots, "print", feast.write_snapshot, loader)
        self.raw, self.reader = raw, OnlineReader(raw, feast.service_description("toy_service"))

    def values(self, as_of: datetime, users: list[str], things: list[str]) -> dict[str, list[Any]]:
        found = self.reader.read_together({"user": users, "thing": things}, as_of)
        out: dict[str, list[Any]] = {}
        for side in found.values():
            for name, column in side.side.columns.items():
                out[name] = (
                    [column.values[a:b].tolist() for a, b in zip(column.offsets, column.offsets[1:], strict=False)]
                    if isinstance(column, Ragged)
                    else [None if isinstance(v, float) and np.isnan(v) else v for v in column.tolist()]
                )
            out |= {f"{view}!": list(states) for view, states in side.status.items()}
            out |= {f"{view}@": [None if np.isnan(t) else t for t in times] for view, times in side.event_times.items()}
        return out


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module", params=["a path", "sqlite", *KINDS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisKind | str]:
    """A running Redis, or the form of a file's address."""
    if request.param in KINDS:
        with redis_kind(request.param, tmp_path_factory.mktemp("redis")) as found:
            yield found
    else:
        yield request.param


@pytest.fixture
def online(place: RedisKind | str, feast: FeastStore, snapshots: Path, tmp_path: Path) -> Online:
    """An empty store at every kind of address."""
    if isinstance(place, str):
        path = tmp_path / "online.db"
        return _at(str(path) if place == "a path" else f"sqlite://{path}", feast, snapshots)
    place.clear()
    return _at(place.address, feast, snapshots)


@pytest.fixture
def online_redis(feast: FeastStore, snapshots: Path, redis_up: RedisKind) -> Online:
    return _at(redis_up.address, feast, snapshots)


def _oracle(feast: FeastStore, snapshots: Path, as_of: datetime) -> Online:
    """The snapshot file itself, which other tests hold against Feast's own client."""
    online = Online(feast, snapshots, SqliteLoader(snapshots / "unused"), SqliteStore(snapshots / "x", "toy"))
    path = online.clock.snapshot(as_of)
    return Online(feast, snapshots, SqliteLoader(path), SqliteStore(path, "toy"))


@pytest.mark.parametrize("as_of", [DAY_5, DAY_8])
def test_reads_are_those_of_the_days_snapshot(
    online: Online, feast: FeastStore, snapshots: Path, as_of: datetime
) -> None:
    online.clock.move_to(as_of)
    users, things = ["1", "-2", "3", "4", "77", "no number"], ["a", "b", "old", "ü", "t7", "never", ""]
    found = online.values(as_of, users, things)
    assert found == _oracle(feast, snapshots, as_of).values(as_of, users, things)
    assert found["users!"] == [
        "found",
        "missing" if as_of == DAY_5 else "found",
        "found",
        "found",
        "missing",
        "missing",
    ]
    assert set(found["things!"]) == {"found", "missing", "expired"}


def test_rows_of_the_future_vanish_when_the_clock_goes_back(online: Online) -> None:
    for as_of, i32 in ((DAY_5, 2), (DAY_8, 20), (DAY_5, 2)):
        online.clock.move_to(as_of)
        assert online.values(as_of, ["1"], [])["users:i32"] == [i32]
    assert online.values(DAY_5, ["-2"], [])["users!"] == ["missing"]


def test_a_reader_sees_one_day_while_the_clock_moves(online: Online) -> None:
    """Day 8 has a newer row of user 1, and a thing that day 5 does not know; a mixture would show one of the two."""
    days, done = (DAY_8, DAY_5), threading.Event()
    online.clock.move_to(DAY_5)

    def move() -> None:
        for turn in range(4):
            online.clock.move_to(days[turn % 2])
        done.set()

    seen, mover = [], threading.Thread(target=move)
    mover.start()
    while not done.is_set() or not seen:
        found = online.values(DAY_8, ["1"], ["ü"])
        seen.append((found["users:i32"][0], found["things!"][0]))
    mover.join()
    assert set(seen) <= {(2, "missing"), (20, "found")}
    assert online.values(DAY_8, ["1"], ["ü"])["users:i32"] == [2]


def test_many_keys_come_in_one_read(online: Online) -> None:
    online.clock.move_to(DAY_5)
    found = online.values(DAY_5, [], [f"t{number}" for number in range(MANY)])
    assert found["things:i32"] == list(range(MANY))


def test_moving_to_the_same_day_again_changes_nothing(online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    online.clock.move_to(DAY_5)

    def again(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(online.clock._loader, "load", again)
    online.clock.move_to(DAY_5 + timedelta(hours=5))


def test_a_snapshot_is_made_once_and_dropped_with_its_features(feast: FeastStore, tmp_path: Path) -> None:
    made: list[datetime] = []

    def make(as_of: datetime, path: Path, earlier: Earlier | None) -> None:
        made.append(as_of)
        feast.write_snapshot(as_of, path, earlier)

    for mark, expected in (("one", 1), ("one", 1), ("two", 2)):
        FeatureClock(tmp_path / "s", mark, make, SqliteLoader(tmp_path / "o.db")).move_to(DAY_5)
        assert len(made) == expected
    assert [path.name for path in (tmp_path / "s").glob("[!.]*")] == ["two"]


def test_an_unreachable_redis_is_told_and_recovers(feast: FeastStore, snapshots: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        online = _at(server.address, feast, snapshots)
        online.clock.move_to(DAY_5)
        assert online.values(DAY_5, ["1"], [])["users!"] == ["found"]
        server.stop()
        with pytest.raises(Unavailable, match="does not answer"):
            online.values(DAY_5, ["1"], [])
        server.start()
        assert online.values(DAY_5, ["1"], [])["users!"] == ["missing"]
        loader_of(server.address, "toy").load(online.clock.snapshot(DAY_5))
        assert online.values(DAY_5, ["1"], [])["users!"] == ["found"]


def test_a_redis_that_hangs_is_told_and_recovers(
    feast: FeastStore, snapshots: Path, redis_up: RedisKind, online_redis: Online
) -> None:
    """All of it: whichever node of a cluster has the rows."""
    online_redis.clock.move_to(DAY_5)
    quick = OnlineReader(store_of(redis_up.address, "toy"), feast.service_description("toy_service"))
    with ExitStack() as stack:
        for server in redis_up.servers:
            stack.enter_context(server.hung())
        for _ in range(2):
            with pytest.raises(Unavailable, match="does not answer") as told:
                quick.read("user", ["1"], DAY_5)
            assert "Timeout" in told.value.cause or "timed out" in told.value.cause.lower()
            assert told.value.hint
    # The answer to the request that was given up must not become the answer to this one.
    assert online_redis.values(DAY_5, ["3"], [])["users:i32"] == [None]
    assert online_redis.values(DAY_5, ["1"], [])["users:i32"] == [2]


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(Unavailable, match="not an address"):
        RedisClient("nonsense://x", 1.0)
    for call in (store_of, loader_of):
        with pytest.raises(UsageError, match="nonsense://x is no address of an online store") as told:
            call("nonsense://user:secret@x", "toy")
        assert "a path, sqlite://…, redis://…, rediss://…, redis+cluster://…" in told.value.hint


@pytest.mark.parametrize("started", ["plain", "cluster"], indirect=True)
def test_the_bytes_are_those_of_feasts_own_materialization(
    feast: FeastStore, redis_up: RedisKind, online_redis: Online
) -> None:
    """Keys are Feast's for a project that is named as the generation."""
    theirs = _feast_itself(feast, redis_up, "toy")
    theirs.materialize(datetime(1970, 1, 1, tzinfo=UTC), DAY_8.replace(hour=0))
    expected = redis_up.dump()
    assert len(expected) > MANY
    redis_up.clear()
    online_redis.clock.move_to(DAY_8)
    project = _live_project(redis_up)
    rows = {key: row for key, row in redis_up.dump().items() if not key.startswith(b"serinus:")}
    assert all(key.endswith(project) for key in rows)
    assert {key.removesuffix(project) + b"toy": row for key, row in rows.items()} == expected


def test_feasts_own_client_reads_the_live_rows_by_the_name_of_their_generation(
    feast: FeastStore, redis_up: RedisKind, online_redis: Online
) -> None:
    """Its registry holds the same definitions, under that name."""
    online_redis.clock.move_to(DAY_5)
    theirs = _feast_itself(feast, redis_up, _live_project(redis_up).decode())
    theirs.apply(feast._declared())
    found = theirs.get_online_features(["users:i32", "users:text"], [{"user": 1}, {"user": 77}]).to_dict()
    assert found["i32"] == [2, None]
    assert found["text"][0] == online_redis.values(DAY_5, ["1"], [])["users:text"][0]


def test_rows_that_feast_materialized_itself_are_read_without_a_load(
    feast: FeastStore, snapshots: Path, redis_up: RedisKind, online_redis: Online
) -> None:
    _feast_itself(feast, redis_up, "toy").materialize(datetime(1970, 1, 1, tzinfo=UTC), DAY_5.replace(hour=0))
    users, things = ["1", "-2", "3", "4", "77"], ["a", "b", "old", "ü", "never"]
    assert online_redis.values(DAY_5, users, things) == _oracle(feast, snapshots, DAY_5).values(DAY_5, users, things)


def _feast_itself(feast: FeastStore, server: RedisKind, project: str) -> Any:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    kind = "redis_cluster" if server.kind == "cluster" else "redis"
    place = {"type": "redis", "redis_type": kind, "connection_string": f"127.0.0.1:{server.servers[0].port}"}
    document = feast._document | {"online_store": place, "project": project}
    return FeatureStore(config=RepoConfig(**document, repo_path=feast._project.config.parent))


def _live_project(server: RedisKind) -> bytes:
    """The Feast project of the live rows."""
    keys = Keys("toy")
    return keys.suffix(generation_of(server.dump()[keys.live]))
