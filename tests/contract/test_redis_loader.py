"""Redis by generation and pointer: killed anywhere, two loads at once, readers of every moment, keys of somebody else.

On a server, on one that allows as little as managed ones do, and on a cluster of three. The snapshots are written here
by hand, in Feast's layout; tests/contract/test_online_store_contract.py has Feast's own.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from serinus.core.errors import Conflict, Unavailable
from serinus.features.online import SqliteStore, StoredRow, Wanted, entity_key
from serinus.features.redis_client import Command, RedisClient
from serinus.features.redis_keys import GRACE_SECONDS, Keys
from serinus.features.redis_loader import RedisLoader
from serinus.features.redis_store import RedisStore
from serinus.features.service import FeatureInfo, ViewInfo
from tests.redis_kinds import KINDS, RedisKind, redis_kind
from tests.servers import PATIENT_SECONDS, free_port

# Real systems are the second part of `make test`.
pytestmark = pytest.mark.slow

MANY = 50
# What a load leaves: its rows, the pointer, the list of its keys and the set of generations.
AT_REST = MANY + 3


def _view(name: str, *features: str) -> ViewInfo:
    infos = tuple(FeatureInfo(name=one, type="Bytes") for one in features)
    return ViewInfo(name=name, entity="user", join_key="user", key_type="INT64", ttl_seconds=0, features=infos)


PROFILE, HISTORY = _view("profile", "a", "b"), _view("history", "c")


def _key(number: int) -> bytes:
    key = entity_key(PROFILE, str(number))
    assert key is not None
    return key


USERS = [_key(user) for user in range(MANY)]


def _snapshot(path: Path, tag: bytes, users: range = range(MANY), project: str = "toy") -> Path:
    """Each user has a profile whose `b` is null; each even one a history."""
    path.parent.mkdir(exist_ok=True)
    db = sqlite3.connect(path)
    for view in ("profile", "history"):
        db.execute(
            f"CREATE TABLE {project}_{view} (entity_key BLOB, feature_name TEXT, value BLOB, event_ts INT, "
            "PRIMARY KEY (entity_key, feature_name))"
        )
    for user in users:
        rows = [(_key(user), "a", tag + b"a%d" % user, user - 5), (_key(user), "b", b"", user - 5)]
        db.executemany(f"INSERT INTO {project}_profile VALUES (?, ?, ?, ?)", rows)
        if user % 2 == 0:
            db.execute(f"INSERT INTO {project}_history VALUES (?, 'c', ?, ?)", (_key(user), tag + b"c", 10**9))
    db.commit()
    db.close()
    return path


@pytest.fixture(scope="module", params=KINDS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisKind]:
    with redis_kind(request.param, tmp_path_factory.mktemp("redis")) as found:
        yield found


def only(*kinds: str) -> pytest.MarkDecorator:
    """A test that means nothing elsewhere."""
    return pytest.mark.parametrize("started", kinds, indirect=True)


@pytest.fixture
def server(started: RedisKind) -> RedisKind:
    started.clear()
    return started


@pytest.fixture
def days(tmp_path: Path) -> tuple[Path, Path]:
    return _snapshot(tmp_path / "mark/1.db", b"one"), _snapshot(tmp_path / "mark/2.db", b"two")


def _client(server: RedisKind) -> RedisClient:
    return RedisClient(server.address, PATIENT_SECONDS)


def _loader(server: RedisKind, project: str = "toy", chunk: int = 2_000) -> RedisLoader:
    return RedisLoader(_client(server), project, chunk=chunk)


def _store(server: RedisKind, project: str = "toy") -> RedisStore:
    return RedisStore(_client(server), project)


def _days_of(rows: dict[bytes, StoredRow]) -> set[bytes]:
    """Which days the rows are from."""
    return {row.values["a"][:3] for row in rows.values()} if len(rows) == MANY else {b"some are missing"}


def _loaded(store: RedisStore) -> set[bytes]:
    (rows,) = store.fetch([Wanted(PROFILE, USERS)])
    return _days_of(rows)


# What a reader asks for


def test_views_of_one_entity_are_read_as_from_sqlite(server: RedisKind, days: tuple[Path, Path]) -> None:
    """Found in both, in one, in none; null; an event time before, at and after 1970."""
    _loader(server).load(days[0])
    asked = [
        Wanted(PROFILE, [_key(4), _key(0), _key(5), _key(6), _key(99)]),
        Wanted(HISTORY, [_key(99), _key(7), _key(6), _key(4)]),
        Wanted(PROFILE, [_key(6)]),
    ]
    found = _store(server).fetch(asked)
    assert found == SqliteStore(days[0], "toy").fetch(asked)
    assert [len(rows) for rows in found] == [4, 2, 1]
    assert sorted(row.event_time for row in found[0].values()) == [-5, -1, 0, 1]
    assert found[0][_key(4)].values == {"a": b"onea4", "b": b""}


def test_an_entity_costs_one_command_however_many_views_it_has(server: RedisKind, days: tuple[Path, Path]) -> None:
    _loader(server).load(days[0])
    server.forget_calls()
    keys = [_key(user) for user in range(10)]
    _store(server).fetch([Wanted(PROFILE, keys), Wanted(HISTORY, keys)])
    assert server.calls()["cmdstat_hmget"] == 10


def test_nothing_asked_is_nothing_found(server: RedisKind) -> None:
    assert _store(server).fetch([]) == []
    assert _store(server).fetch([Wanted(PROFILE, [])]) == [{}]


class _Counted(RedisClient):
    """Counts round trips, and lets something happen before one."""

    trips = 0
    before: Any = None

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        self.trips += 1
        happening, self.before = self.before, None
        if happening:
            happening()
        return super().ask(commands)


def test_a_read_is_one_round_trip_and_one_more_after_a_flip(server: RedisKind, days: tuple[Path, Path]) -> None:
    _loader(server).load(days[0])
    client = _Counted(server.address, PATIENT_SECONDS)
    store, trips = RedisStore(client, "toy"), []
    for tag, turn in ((b"one", 0), (b"one", 0), (b"one", 0), (b"two", 1), (b"two", 1)):
        _loader(server).load(days[turn])
        client.trips = 0
        assert _loaded(store) == {tag}
        trips.append(client.trips)
    assert trips == [2, 1, 1, 2, 1]  # the first asks where the pointer is


def test_a_flip_while_a_read_is_under_way_is_seen_by_it(server: RedisKind, days: tuple[Path, Path]) -> None:
    _loader(server).load(days[0])
    client = _Counted(server.address, PATIENT_SECONDS)
    store = RedisStore(client, "toy")
    assert _loaded(store) == {b"one"}
    client.before = lambda: _loader(server).load(days[1])
    assert _loaded(store) == {b"two"}


def test_a_read_that_took_longer_than_rows_are_kept_looks_once_more(server: RedisKind, days: tuple[Path, Path]) -> None:
    """On a cluster the pointer may have been read before a flip, and a row after the old ones were gone."""
    _loader(server).load(days[0])
    client, times = _Counted(server.address, PATIENT_SECONDS), itertools.count(step=GRACE_SECONDS)
    store = RedisStore(client, "toy", now=lambda: next(times))
    assert _loaded(store) == {b"one"}
    assert client.trips == 3


def test_a_store_that_flips_with_every_look_is_told(server: RedisKind, tmp_path: Path) -> None:
    snapshots = (_snapshot(tmp_path / f"mark/{n}.db", b"day", range(1)) for n in itertools.count())

    class Flipping(RedisClient):
        def ask(self, commands: Sequence[Command]) -> list[Any]:
            _loader(server).load(next(snapshots))
            return super().ask(commands)

    with pytest.raises(Unavailable, match="loaded faster than it is read"):
        RedisStore(Flipping(server.address, PATIENT_SECONDS), "toy").fetch([Wanted(PROFILE, [_key(0)])])


@pytest.mark.slow
def test_readers_that_hammer_a_store_see_one_day_each_and_never_an_older_one(server: RedisKind, tmp_path: Path) -> None:
    """Readers with a pointer of long ago, of just now and of none; old rows really go while they read."""
    loads, stop = 60, threading.Event()
    snapshots = [_snapshot(tmp_path / f"mark/{n:03}.db", b"%03d" % n) for n in range(loads)]
    _loader(server).load(snapshots[0])
    faults: list[object] = []
    counts: list[int] = []

    def read(fresh: bool) -> None:
        store, last, count = _store(server), b"", 0
        while not stop.is_set():
            store = _store(server) if fresh else store
            seen = _loaded(store)
            if len(seen) != 1 or min(seen) < last or seen == {b"some are missing"}:
                faults.append((seen, last))
                return
            last, count = min(seen), count + 1
        counts.append(count)

    readers = [threading.Thread(target=read, args=(fresh,)) for fresh in (False, False, True)]
    for reader in readers:
        reader.start()
    loader, reached, idle = _loader(server, chunk=20), b"", _store(server)
    try:
        for number, snapshot in enumerate(snapshots):
            loader.load(snapshot)
            reached = min(_loaded(_store(server)))
            assert reached == b"%03d" % number
            if number % 20 == 0:  # by now the rows that this one saw last have gone
                server.settled()
                assert _loaded(idle) == {reached}
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not faults
    assert len(counts) == 3
    assert len(server.lasting()) == AT_REST


# Stores that no load of ours has written


def test_a_store_that_feast_wrote_itself_is_read_as_it_is(server: RedisKind, days: tuple[Path, Path]) -> None:
    """Without a pointer the keys have the project's own name. Rows of its readers are those of the load, after one."""
    _loader(server).load(days[0])
    rows = {key: value for key, value in server.dump().items() if not key.startswith(b"serinus:")}
    server.clear()
    client = _client(server)
    for key, value in rows.items():
        client.ask([("HSET", key[: key.rindex(b"__")], *(part for pair in value.items() for part in pair))])
    assert len(server.keys()) == MANY
    store = _store(server)
    assert _loaded(store) == {b"one"}
    _loader(server).load(days[1])
    assert _loaded(store) == {b"two"}
    assert len(server.lasting()) == AT_REST + MANY  # Feast's are not ours to take away


def test_an_empty_store_has_no_rows(server: RedisKind) -> None:
    assert _store(server).fetch([Wanted(PROFILE, USERS)]) == [{}]


def test_keys_of_somebody_else_are_left_alone(server: RedisKind, days: tuple[Path, Path]) -> None:
    client = _client(server)
    theirs = [
        ("SET", "theirs", "precious"),
        ("SET", _key(1) + b"toyota", "a car"),
        ("HSET", _key(1) + b"toy", "a", "1"),
    ]
    client.ask(theirs)
    before = server.dump()
    for day in (*days, *days):
        _loader(server).load(day)
    server.settled()  # nothing of them goes later either
    after = server.dump()
    assert {key: after[key] for key in before} == before
    assert len(after) == AT_REST + len(before)


def test_problems_share_a_database_without_meeting(server: RedisKind, tmp_path: Path) -> None:
    projects = ("toy", "toys", "other")
    for turn in (b"one", b"two"):
        for project in projects:
            path = _snapshot(tmp_path / project / f"{turn.decode()}.db", turn, project=project)
            _loader(server, project).load(path)
        assert [_loaded(_store(server, project)) for project in projects] == [{turn}] * 3
    assert len(server.lasting()) == AT_REST * 3


# Loads


def test_loading_the_live_snapshot_again_writes_no_row(server: RedisKind, days: tuple[Path, Path]) -> None:
    _loader(server).load(days[0])
    before = server.dump()
    server.forget_calls()
    _loader(server).load(days[0])
    assert "cmdstat_hset" not in server.calls()
    assert server.dump() == before


@pytest.mark.parametrize("lost", ["some rows", "the list of them"])
def test_what_was_taken_away_comes_back_by_loading_again(server: RedisKind, days: tuple[Path, Path], lost: str) -> None:
    """A person, or a Redis that was full and evicted."""
    _loader(server).load(days[0])
    client, keys = _client(server), Keys("toy")
    live = _live(server)
    rows = [_key(one) + keys.suffix(live) for one in range(0, MANY, 7)]
    client.ask([("DEL", one) for one in (rows if lost == "some rows" else [keys.written(live)])])
    _loader(server).load(days[0])
    assert _loaded(_store(server)) == {b"one"}
    assert server.settled() >= {_key(one) + keys.suffix(_live(server)) for one in range(MANY)}


def _live(server: RedisKind) -> bytes:
    found: bytes = _client(server).ask([("GET", Keys("toy").live)])[0]
    return found.partition(b" ")[0]


def test_at_most_the_live_rows_those_of_the_next_day_and_those_of_the_last_are_there(
    server: RedisKind, days: tuple[Path, Path]
) -> None:
    for turn in range(4):
        server.settled()
        _loader(server).load(days[turn % 2])
        assert len(server.keys()) <= AT_REST + MANY
    assert len(server.lasting()) == AT_REST


class _Interrupted(RedisClient):
    """Lets something happen before the first rows of a load are written."""

    happening: Any = None

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        if commands and commands[0][0] == "HSET" and self.happening:
            happening, self.happening = self.happening, None
            happening()
        return super().ask(commands)


@pytest.mark.parametrize("other_ends", [True, False], ids=["ended", "under way"])
def test_of_two_loads_at_once_the_later_one_ends_and_nothing_is_mixed(
    server: RedisKind, days: tuple[Path, Path], other_ends: bool
) -> None:
    """The second load begins when the first has listed rows that it has not written yet."""
    old, new = days
    client = _Interrupted(server.address, PATIENT_SECONDS)
    second = _loader(server)
    client.happening = (lambda: second.load(new)) if other_ends else (lambda: second._begin(b"second"))
    with pytest.raises(Conflict, match="took over") as told:
        RedisLoader(client, "toy", chunk=10).load(old)
    assert told.value.hint
    if not other_ends:
        assert _store(server).fetch([Wanted(PROFILE, USERS)]) == [{}]  # nothing went live
        second.load(new)
    assert _loaded(_store(server)) == {b"two"}
    assert len(server.lasting()) == AT_REST


class _Killed(BaseException):
    """Stands for the end of a process."""


class _Mortal(RedisClient):
    """Ends the process before or after its n-th command."""

    def __init__(self, address: str, at: int, mode: str) -> None:
        super().__init__(address, PATIENT_SECONDS)
        self.count, self._at, self._mode = 0, at, mode

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        return [self._step(lambda one=one: super(_Mortal, self).ask([one])[0]) for one in commands]

    def together(self, commands: Sequence[Command]) -> list[Any]:
        found: list[Any] = self._step(lambda: super(_Mortal, self).together(commands))
        return found

    @contextmanager
    def transaction(self, key: bytes, value: bytes) -> Iterator[Any]:
        with super().transaction(key, value) as pipe:
            yield pipe
            self._die("before")
        self._die("after")
        self.count += 1

    def _step(self, call: Any) -> Any:
        self._die("before")
        found = call()
        self._die("after")
        self.count += 1
        return found

    def _die(self, mode: str) -> None:
        if self.count == self._at and mode == self._mode:
            raise _Killed


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_load_killed_anywhere_shows_old_or_new_and_the_next_one_ends_it(
    server: RedisKind, tmp_path: Path, mode: str
) -> None:
    """At every command in turn; when nothing is left to die at, the whole load was covered."""
    few = range(8)
    one, two = (_snapshot(tmp_path / f"mark/{tag}.db", tag.encode(), few) for tag in ("one", "two"))

    def loaded() -> set[bytes]:
        (rows,) = _store(server).fetch([Wanted(PROFILE, USERS)])
        assert len(rows) == len(few)
        return {row.values["a"][:3] for row in rows.values()}

    for at in range(1_000):
        server.clear()
        _loader(server).load(one)
        client = _Mortal(server.address, at, mode)
        survived = False
        try:
            RedisLoader(client, "toy", chunk=3).load(two)
            survived = True
        except _Killed:
            pass
        assert loaded() in ({b"one"}, {b"two"})
        _loader(server).load(one if at % 2 else two)
        assert loaded() == ({b"one"} if at % 2 else {b"two"})
        assert len(server.lasting()) == AT_REST - MANY + len(few)
        if survived:
            assert client.count > 2 * 12  # a row of each view, written and, when old, let go
            return
    raise AssertionError("never got through")


def test_what_a_load_that_died_left_does_not_show(server: RedisKind, days: tuple[Path, Path], tmp_path: Path) -> None:
    """Users that only the dead load knew must not appear."""
    more = _snapshot(tmp_path / "mark/3.db", b"bad", range(2 * MANY))
    _loader(server).load(days[0])
    with pytest.raises(_Killed):
        RedisLoader(_Mortal(server.address, 120, "after"), "toy", chunk=20).load(more)
    assert len(server.keys()) > AT_REST
    _loader(server).load(days[1])
    assert _loaded(_store(server)) == {b"two"}
    assert len(server.lasting()) == AT_REST


@only("cluster")
def test_every_key_of_serinus_is_of_one_slot_and_rows_are_spread(server: RedisKind, days: tuple[Path, Path]) -> None:
    _loader(server).load(days[0])
    held = [node.keys() for node in server.nodes]
    ours = [sum(key.startswith(b"serinus:") for key in keys) for keys in held]
    rows = [len(keys) - own for keys, own in zip(held, ours, strict=True)]
    assert all(rows)
    assert sum(rows) == MANY
    assert sorted(ours) == [0, 0, 3]


@only("cluster")
def test_a_slot_that_moves_to_another_node_is_followed(server: RedisKind, days: tuple[Path, Path]) -> None:
    """Read and loaded by clients that know where it was."""
    store, loader = _store(server), _loader(server)
    loader.load(days[0])
    assert _loaded(store) == {b"one"}
    slot = redis.cluster.key_slot(Keys("toy").live)
    with _moved(server, slot):
        assert _loaded(store) == {b"one"}
        loader.load(days[1])
        assert _loaded(store) == {b"two"}
    assert _loaded(store) == {b"two"}
    assert len(server.lasting()) == AT_REST


@contextmanager
def _moved(server: RedisKind, slot: int) -> Iterator[None]:
    """A slot with its keys is at another node for a while."""
    share = 16_384 // 3 + 1
    home, away = server.nodes[slot // share], server.nodes[(slot // share + 1) % 3]
    _migrate(server, slot, home, away)
    try:
        yield
    finally:
        _migrate(server, slot, away, home)


def _migrate(server: RedisKind, slot: int, source: Any, target: Any) -> None:
    ids = {node: node.execute_command("CLUSTER MYID").decode() for node in (source, target)}
    port = server.servers[server.nodes.index(target)].port
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    for key in source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000):
        source.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5_000)
    for node in (target, source, *server.nodes):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])


@only("cluster")
def test_a_call_does_not_wait_for_another_one_that_looks_for_the_nodes(
    server: RedisKind, days: tuple[Path, Path]
) -> None:
    """The node that is asked where the slots are hangs; rows on the others are read meanwhile."""
    _loader(server).load(days[0])
    client = _client(server)
    command: Command = ("EXISTS", "away")
    while client._cluster.get_node_from_key(command[1]).port == server.servers[0].port:
        command = ("EXISTS", f"{command[1]}y")
    with server.servers[0].hung():
        client._moved = True
        looking = threading.Thread(target=client.ask, args=([command],))
        looking.start()
        while looking.is_alive() and not client._discovering.locked():
            pass
        assert client.ask([command]) == [0]
        assert looking.is_alive()
    looking.join()


# Addresses and faults


@only("plain")
@pytest.mark.parametrize("form", ["", "/0", "/3", "?db=3", "/2?db=3"])
def test_every_form_of_an_address_names_one_database(server: RedisKind, days: tuple[Path, Path], form: str) -> None:
    address = f"redis://127.0.0.1:{server.servers[0].port}{form}"
    client = RedisClient(address, PATIENT_SECONDS)
    for snapshot, tag in zip(days, (b"one", b"two"), strict=True):
        RedisLoader(client, "toy").load(snapshot)
        assert _loaded(RedisStore(client, "toy")) == {tag}
    live = 3 if "3" in form else 0
    sizes = [redis.Redis(port=server.servers[0].port, db=number).dbsize() for number in range(16)]
    assert [number for number, size in enumerate(sizes) if size] == [live]


@only("cluster")
def test_a_node_of_a_cluster_by_the_address_of_a_server_is_told(server: RedisKind, days: tuple[Path, Path]) -> None:
    client = RedisClient(server.address.replace("+cluster", ""), PATIENT_SECONDS)
    with pytest.raises(Unavailable, match="does not answer") as told:
        RedisStore(client, "toy").fetch([Wanted(PROFILE, USERS)])
    assert "redis+cluster://" in told.value.hint
    with pytest.raises(Unavailable, match="cannot be loaded") as told:
        RedisLoader(client, "toy").load(days[0])
    assert "redis+cluster://" in told.value.hint


@only("plain", "managed")
def test_a_server_by_the_address_of_a_cluster_is_told(server: RedisKind) -> None:
    client = RedisClient(server.address.replace("redis:", "redis+cluster:"), PATIENT_SECONDS)
    with pytest.raises(Unavailable, match="does not answer") as told:
        RedisStore(client, "toy").fetch([Wanted(PROFILE, USERS)])
    assert "luster" in told.value.cause


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_store_that_is_away_is_told_without_its_password(days: tuple[Path, Path], scheme: str) -> None:
    client = RedisClient(f"{scheme}://:secret@127.0.0.1:{free_port()}/0", PATIENT_SECONDS)
    for call in (
        lambda: RedisLoader(client, "toy").load(days[0]),
        lambda: RedisStore(client, "toy").fetch([Wanted(PROFILE, USERS)]),
    ):
        with pytest.raises(Unavailable, match=r"cannot be loaded|does not answer") as told:
            call()
        assert "secret" not in told.value.headline + told.value.cause + told.value.hint


def test_a_server_that_refuses_a_row_refuses_the_load(server: RedisKind, days: tuple[Path, Path]) -> None:
    """What is live stays so."""
    _loader(server).load(days[0])
    for node in server.nodes:
        server._run(node, "CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match="cannot be loaded") as told:
            _loader(server).load(days[1])
        assert "OutOfMemory" in told.value.cause
        assert _loaded(_store(server)) == {b"one"}
    finally:
        for node in server.nodes:
            server._run(node, "CONFIG", "SET", "maxmemory", "0")
    _loader(server).load(days[1])
    assert _loaded(_store(server)) == {b"two"}
    assert len(server.lasting()) == AT_REST
