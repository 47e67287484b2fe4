"""Loading Redis: killed anywhere, two loads at once, databases of somebody else, forms of an address, shared hashes.

The snapshots are written here by hand, in Feast's layout; tests/contract/test_online_store_contract.py has Feast's own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from serinus.core.errors import Conflict, Unavailable, UsageError
from serinus.features import redis_store
from serinus.features.online import SqliteStore, Wanted, entity_key
from serinus.features.redis_store import RedisLoader, RedisStore
from serinus.features.service import FeatureInfo, ViewInfo
from tests.servers import PATIENT_SECONDS, RedisServer, redis_server

MANY = 50


def _view(name: str, *features: str) -> ViewInfo:
    infos = tuple(FeatureInfo(name=one, type="Bytes") for one in features)
    return ViewInfo(name=name, entity="user", join_key="user", key_type="INT64", ttl_seconds=0, features=infos)


PROFILE, HISTORY = _view("profile", "a", "b"), _view("history", "c")


def _key(number: int) -> bytes:
    key = entity_key(PROFILE, str(number))
    assert key is not None
    return key


def _snapshot(path: Path, tag: bytes, users: range = range(MANY)) -> Path:
    """Each user has a profile whose `b` is null; each even one a history."""
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    for view in ("profile", "history"):
        db.execute(
            f"CREATE TABLE toy_{view} (entity_key BLOB, feature_name TEXT, value BLOB, event_ts INT, "
            "PRIMARY KEY (entity_key, feature_name))"
        )
    for user in users:
        rows = [(_key(user), "a", tag + b"a%d" % user, user - 5), (_key(user), "b", b"", user - 5)]
        db.executemany("INSERT INTO toy_profile VALUES (?, ?, ?, ?)", rows)
        if user % 2 == 0:
            db.execute("INSERT INTO toy_history VALUES (?, 'c', ?, ?)", (_key(user), tag + b"c", 10**9))
    db.commit()
    db.close()
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(autouse=True)
def plain(server: RedisServer) -> Any:
    client = redis.Redis.from_url(server.address)
    client.flushall()
    return client


@pytest.fixture
def days(tmp_path: Path) -> tuple[Path, Path]:
    return _snapshot(tmp_path / "mark/1.db", b"one"), _snapshot(tmp_path / "mark/2.db", b"two")


def _loaded(address: str) -> set[bytes]:
    """Which days the live rows are from."""
    keys = [_key(user) for user in range(MANY)]
    (rows,) = RedisStore(address, "toy", timeout=PATIENT_SECONDS).fetch([Wanted(PROFILE, keys)])
    return {row.values["a"][:3] for row in rows.values()} if len(rows) == MANY else {b"some are missing"}


def _database(server: RedisServer, number: int) -> Any:
    return redis.Redis(port=server.port, db=number)


def test_views_of_one_entity_are_read_as_from_sqlite(server: RedisServer, days: tuple[Path, Path]) -> None:
    """Found in both, in one, in none; null; an event time before, at and after 1970."""
    RedisLoader(server.address, "toy").load(days[0])
    asked = [
        Wanted(PROFILE, [_key(4), _key(0), _key(5), _key(6), _key(99)]),
        Wanted(HISTORY, [_key(99), _key(7), _key(6), _key(4)]),
        Wanted(PROFILE, [_key(6)]),
    ]
    found = RedisStore(server.address, "toy", timeout=PATIENT_SECONDS).fetch(asked)
    assert found == SqliteStore(days[0], "toy").fetch(asked)
    assert [len(rows) for rows in found] == [4, 2, 1]
    assert sorted(row.event_time for row in found[0].values()) == [-5, -1, 0, 1]
    assert found[0][_key(4)].values == {"a": b"onea4", "b": b""}


def test_an_entity_costs_one_command_however_many_views_it_has(
    server: RedisServer, plain: Any, days: tuple[Path, Path]
) -> None:
    RedisLoader(server.address, "toy").load(days[0])
    plain.config_resetstat()
    keys = [_key(user) for user in range(10)]
    RedisStore(server.address, "toy", timeout=PATIENT_SECONDS).fetch([Wanted(PROFILE, keys), Wanted(HISTORY, keys)])
    assert plain.info("commandstats")["cmdstat_hmget"]["calls"] == 10


def test_nothing_asked_is_nothing_found(server: RedisServer) -> None:
    assert RedisStore(server.address, "toy").fetch([]) == []
    assert RedisStore(server.address, "toy").fetch([Wanted(PROFILE, [])]) == [{}]


@pytest.mark.parametrize("other_ends", [True, False], ids=["ended", "under way"])
def test_of_two_loads_at_once_the_later_one_ends_and_nothing_is_mixed(
    server: RedisServer, plain: Any, days: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, other_ends: bool
) -> None:
    """The second load begins between two chunks of the first."""
    old, new = days
    monkeypatch.setattr(redis_store, "_CHUNK", 10)
    real, second = redis_store._chunks, RedisLoader(server.address, "toy")

    def interrupted(snapshot: Path, project: bytes) -> Iterator[Any]:
        chunks = real(snapshot, project)
        yield next(chunks)
        monkeypatch.setattr(redis_store, "_chunks", real)
        if other_ends:
            second.load(new)
        else:
            second._begin(b"second")
        yield from chunks

    monkeypatch.setattr(redis_store, "_chunks", interrupted)
    with pytest.raises(Conflict, match="took over") as told:
        RedisLoader(server.address, "toy").load(old)
    assert told.value.hint
    if not other_ends:
        assert plain.dbsize() == 0  # nothing went live
        second.load(new)
    assert _loaded(server.address) == {b"two"}
    assert _database(server, 1).dbsize() == 0


def test_what_a_load_that_died_left_does_not_show(server: RedisServer, days: tuple[Path, Path], tmp_path: Path) -> None:
    """Users that only the dead load knew must not appear."""
    more = _snapshot(tmp_path / "mark/3.db", b"bad", range(2 * MANY))
    dead = RedisLoader(server.address, "toy")
    dead._begin(b"dead")
    with dead._step(b"dead") as pipe:
        for chunk in redis_store._chunks(more, b"toy"):
            for key, values in chunk.items():
                pipe.hset(key, mapping=values)
    RedisLoader(server.address, "toy").load(days[0])
    assert _loaded(server.address) == {b"one"}
    assert _database(server, 0).dbsize() == MANY + 1  # and the mark
    assert _database(server, 1).dbsize() == 0


class _Killed(BaseException):
    """Stands for the end of a process."""


class _Counting:
    """A client whose n-th call ends the process before or after it."""

    def __init__(self, client: Any, state: dict[str, Any]) -> None:
        self._client, self._state = client, state

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name == "pipeline":
            return lambda **options: _Counting(real(**options), self._state)
        if name not in ("flushdb", "execute", "set", "swapdb", "get", "watch", "dbsize"):
            return real

        def call(*args: Any, **options: Any) -> Any:
            mine = self._state["count"] == self._state["at"]
            self._state["count"] += 1
            if mine and self._state["mode"] == "before":
                raise _Killed
            result = real(*args, **options)
            if mine:
                raise _Killed
            return result

        return call

    def __enter__(self) -> _Counting:
        self._client.__enter__()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._client.__exit__(*fault)


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_load_killed_anywhere_shows_old_or_new_and_the_next_one_ends_it(
    server: RedisServer, plain: Any, days: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """At every call to Redis in turn; when nothing is left to die at, the whole load was covered."""
    monkeypatch.setattr(redis_store, "_CHUNK", 10)
    for at in range(100):
        plain.flushall()
        RedisLoader(server.address, "toy").load(days[0])
        dying = RedisLoader(server.address, "toy")
        state = {"at": at, "count": 0, "mode": mode}
        dying._live, dying._aside = _Counting(dying._live, state), _Counting(dying._aside, state)
        survived = False
        try:
            dying.load(days[1])
            survived = True
        except _Killed:
            pass
        assert _loaded(server.address) in ({b"one"}, {b"two"})
        RedisLoader(server.address, "toy").load(days[1])
        assert _loaded(server.address) == {b"two"}
        assert plain.dbsize() == MANY + 1  # and the mark
        assert _database(server, 1).dbsize() == 0
        if survived:
            assert at > 30  # 3 calls for each of 8 chunks and for the swap, and those before the first chunk
            return
    raise AssertionError("never got through")


@pytest.mark.parametrize("number", [0, 1], ids=["the live one", "the one beside"])
def test_a_database_of_somebody_else_is_left_alone(server: RedisServer, days: tuple[Path, Path], number: int) -> None:
    _database(server, number).set("theirs", "precious")
    with pytest.raises(UsageError, match=f"database {number} of .* holds what no load of toy wrote") as told:
        RedisLoader(server.address, "toy").load(days[0])
    assert "of its own" in told.value.hint
    assert _database(server, number).get("theirs") == b"precious"


@pytest.mark.parametrize("number", [0, 1], ids=["the same", "the next"])
def test_a_problem_does_not_take_the_store_of_another(
    server: RedisServer, days: tuple[Path, Path], number: int
) -> None:
    RedisLoader(f"redis://127.0.0.1:{server.port}/{number}", "toy").load(days[0])
    with pytest.raises(UsageError, match="no load of other wrote"):
        RedisLoader(server.address, "other").load(days[1])
    assert _loaded(f"redis://127.0.0.1:{server.port}/{number}") == {b"one"}


@pytest.mark.parametrize("form", ["", "/0", "/3", "?db=3", "/2?db=3"])
def test_every_form_of_an_address_names_one_database(server: RedisServer, days: tuple[Path, Path], form: str) -> None:
    address = f"redis://127.0.0.1:{server.port}{form}"
    for snapshot, tag in zip(days, (b"one", b"two"), strict=True):
        RedisLoader(address, "toy").load(snapshot)
        assert _loaded(address) == {tag}
    live = 3 if "3" in form else 0
    assert [number for number in range(16) if _database(server, number).dbsize()] == [live]


def test_a_server_without_a_database_to_spare_is_told(server: RedisServer, days: tuple[Path, Path]) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded") as told:
        RedisLoader(f"redis://:secret@127.0.0.1:{server.port}/15", "toy").load(days[0])
    assert "secret" not in told.value.headline + told.value.cause
    with pytest.raises(Unavailable, match="cannot be loaded") as told:
        RedisLoader(f"redis://127.0.0.1:{server.port}/15", "toy").load(days[0])
    assert "the next one" in told.value.hint
