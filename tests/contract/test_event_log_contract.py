"""What every event log must do, whatever it is made of."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/evidence"))
from memory_log import TOY, row_of

from serinus.core.errors import NotFound, Unavailable
from serinus.core.events import Decided, Event, Exposure, Inputs, Outcome, Scores, Stream
from serinus.core.names import ServiceRef
from serinus.evidence.drain import Drain
from serinus.evidence.log import EventLog
from serinus.evidence.logs import waiting_in
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_log import RedisEventLog
from serinus.evidence.redis_streams import DURABLE, RedisStreams
from tests.disks import FullDisk
from tests.redis_kinds import redis_kind
from tests.servers import MEMORY, RedisServer, redis_server

MakeLog = Callable[[], EventLog]
KILLS = Path(__file__).with_name("event_log_kills.py")
BEFORE = Path(__file__).parents[1] / "unit/evidence/release_0_1"


@pytest.fixture(scope="module")
def redis_up() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, redis_server(Path(folder), durable=True) as server:
        yield server


@pytest.fixture
def empty_redis(redis_up: RedisServer) -> Any:
    """A client of it."""
    client = redis.Redis.from_url(redis_up.address)
    client.flushall()
    return client


@pytest.fixture(params=["parquet", "redis"])
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLog:
    """A log of each kind over one place; called again, another process's view of it."""
    if request.param == "parquet":
        return lambda: ParquetEventLog(tmp_path / "log")
    request.getfixturevalue("empty_redis")
    address = request.getfixturevalue("redis_up").address
    return lambda: RedisEventLog(address, TOY)


def exposure(number: int, **changes: Any) -> Exposure:
    values: dict[str, Any] = {
        "id": f"r{number}@v", "request_id": f"r{number}", "service": "default/toy", "revision": "v", "version": "1",
        "route": "", "forced_arm": "",
        "entity": "ä", "unit": "日本", "bucket": number % 1000, "bucket_check": "ok", "at": 1e9 + number / 3,
        "as_of": -1.5, "items": 3, "cold_start": number % 2 == 0, "unknown_items": 0, "lookups": 2**40,
        "defaulted": 0, "latency_ms": 5e-324, "error": "", "covariates": (0.5, -1.0), "writer": "w", "sequence": number,
    }  # fmt: skip
    return Exposure(**(values | changes))


def outcome(number: int, **changes: Any) -> Outcome:
    values: dict[str, Any] = {"name": "bought", "request_id": "", "unit": "u", "item": "", "value": 1.0, "as_of": 1.0}
    return Outcome(**({"id": f"o{number}", "at": 2.0} | values | changes))


def rows(log: EventLog, stream: Stream) -> list[dict[str, Any]]:
    return [row for segment in log.segments(stream) for row in log.read(segment).to_pylist()]


def by_id(log: EventLog, stream: Stream) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows(log, stream)}


def _plain(event: Event) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(event).items()}


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (
            Stream.EXPOSURES,
            [exposure(0), exposure(1, error="BundleError", forced_arm="canary", route="r-v2-aaaaaa.3", at=math.inf)],
        ),
        (Stream.SCORES, [Scores("a", "r", ("x", "ü", ""), (0.1, 1 / 3, 1e-300)), Scores("b", "r", (), ())]),
        (
            Stream.DECISIONS,
            [
                Decided("a", "r", "v", 1.0, "block", ("too new", ""), ("r-1",), 1 / 3, (2, 0, 1)),
                Decided("b", "r", "v", 1.0, "", (), (), 1.0, ()),
            ],
        ),
        (
            Stream.INPUTS,
            [
                Inputs("a", "r", "v", 1.0, -1.5, 7, "ü", (0.5, 1e-300, 3.4028234663852886e38), '{"amount":1e-300}'),
                Inputs("b", "r", "v", 1.0, 1.0, 0, "", (), "{}"),
            ],
        ),
        (Stream.OUTCOMES, [outcome(0), outcome(1, value=-2.5, request_id="r", item="x" * 300)]),
    ],
)
def test_rows_come_back_as_they_were(make_log: MakeLog, stream: Stream, events: list[Event]) -> None:
    make_log().append(stream, events)
    assert rows(make_log(), stream) == [_plain(event) for event in events]


@pytest.mark.parametrize("stream", Stream)
def test_rows_keep_the_order_of_appending(make_log: MakeLog, stream: Stream) -> None:
    log = make_log()
    for number in range(0, 20, 2):
        log.append(stream, [row_of(stream, f"o{number}"), row_of(stream, f"o{number + 1}")])
    assert [row["id"] for row in rows(make_log(), stream)] == [f"o{number}" for number in range(20)]


@pytest.mark.parametrize("stream", Stream)
def test_some_columns_can_be_read_alone(make_log: MakeLog, stream: Stream) -> None:
    log = make_log()
    log.append(stream, [row_of(stream, "o0")])
    (segment,) = log.segments(stream)
    assert segment.rows == 1
    expected = {"request_id": _plain(row_of(stream, "o0"))["request_id"], "id": "o0"}
    assert log.read(segment, ["request_id", "id"]).to_pylist() == [expected]


@pytest.mark.parametrize("stream", Stream)
def test_streams_do_not_meet(make_log: MakeLog, stream: Stream) -> None:
    log = make_log()
    log.append(stream, [row_of(stream, "o0")])
    assert [one for one in Stream if log.segments(one)] == [stream]


@pytest.mark.parametrize("stream", Stream)
def test_appending_nothing_leaves_nothing(make_log: MakeLog, stream: Stream) -> None:
    log = make_log()
    log.append(stream, [])
    assert log.segments(stream) == []


def test_a_reader_sees_what_was_appended_after_it_first_looked(make_log: MakeLog) -> None:
    writer, reader = make_log(), make_log()
    assert reader.segments(Stream.OUTCOMES) == []
    for number in range(3):
        writer.append(Stream.OUTCOMES, [outcome(number)])
        assert len(rows(reader, Stream.OUTCOMES)) == number + 1


@pytest.mark.parametrize("stream", Stream)
def test_a_row_appended_again_folds_by_id(make_log: MakeLog, stream: Stream) -> None:
    log = make_log()
    for _ in range(2):
        log.append(stream, [row_of(stream, "o7")])
    assert by_id(log, stream) == {"o7": _plain(row_of(stream, "o7"))}


def test_many_writers_lose_nothing(make_log: MakeLog) -> None:
    logs = [make_log(), make_log(), make_log()]

    def write(log: EventLog, first: int) -> None:
        for number in range(first, first + 20):
            log.append(Stream.OUTCOMES, [outcome(number)])

    threads = [threading.Thread(target=write, args=(log, 20 * i)) for i, log in enumerate([*logs, logs[0]])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(make_log(), Stream.OUTCOMES)) == 80
    assert set(by_id(make_log(), Stream.OUTCOMES)) == {f"o{number}" for number in range(80)}


def test_a_full_disk_refuses_the_whole_batch_and_the_next_one_goes_on(tmp_path: Path) -> None:
    disk = FullDisk()
    log = ParquetEventLog(tmp_path, disk=disk)
    with pytest.raises(Unavailable, match="cannot take outcomes") as refused:
        log.append(Stream.OUTCOMES, [outcome(0), outcome(1)])
    assert "No space left" in refused.value.cause
    assert rows(ParquetEventLog(tmp_path), Stream.OUTCOMES) == []
    disk.full = False
    log.append(Stream.OUTCOMES, [outcome(1)])
    assert set(by_id(ParquetEventLog(tmp_path), Stream.OUTCOMES)) == {"o1"}
    assert log.damage().torn_files == 0


@contextmanager
def configured(client: Any, name: str, value: str) -> Iterator[None]:
    """Another setting of Redis for a while."""
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


def test_a_full_redis_refuses_the_whole_batch_and_the_next_one_goes_on(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    with configured(empty_redis, "maxmemory", "1"), pytest.raises(Unavailable, match="cannot take outcomes") as refused:
        log.append(Stream.OUTCOMES, [outcome(0), outcome(1)])
    assert "OutOfMemory" in refused.value.cause
    assert rows(log, Stream.OUTCOMES) == []
    log.append(Stream.OUTCOMES, [outcome(1)])
    assert set(by_id(log, Stream.OUTCOMES)) == {"o1"}
    assert log.damage().torn_files == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_redis_that_would_acknowledge_what_is_not_on_disk_is_refused(
    empty_redis: Any, redis_up: RedisServer, name: str, value: str, protocol: int
) -> None:
    log = RedisEventLog(f"{redis_up.address}?protocol={protocol}", TOY)
    with configured(empty_redis, name, value), pytest.raises(Unavailable, match="cannot take outcomes") as refused:
        log.append(Stream.OUTCOMES, [outcome(0)])
    assert f"{name} is {value}" in refused.value.cause
    assert f"{name} {DURABLE[name]}" in refused.value.hint
    assert not empty_redis.dbsize()
    log.append(Stream.OUTCOMES, [outcome(0)])
    assert set(by_id(log, Stream.OUTCOMES)) == {"o0"}


def test_a_redis_that_does_not_say_whether_it_syncs_is_refused(empty_redis: Any, redis_up: RedisServer) -> None:
    empty_redis.acl_setuser("writer", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    log = RedisEventLog(redis_up.address.replace("//", "//writer:secret@"), TOY)
    with pytest.raises(Unavailable) as refused:
        log.append(Stream.OUTCOMES, [outcome(0)])
    assert "CONFIG GET is refused" in refused.value.cause
    assert "allow CONFIG GET" in refused.value.hint
    assert "secret" not in refused.value.cause
    assert not empty_redis.dbsize()


def test_a_redis_that_refuses_writes_for_now_is_told(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    with configured(empty_redis, "min-replicas-to-write", "1"), pytest.raises(Unavailable) as refused:
        log.append(Stream.OUTCOMES, [outcome(0)])
    assert "NOREPLICAS" in refused.value.cause


def test_a_redis_that_hangs_is_told_and_its_late_answer_harms_nothing(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    log.append(Stream.OUTCOMES, [outcome(0)])
    with redis_up.hung(), pytest.raises(Unavailable) as refused:
        log.append(Stream.OUTCOMES, [outcome(1)])
    assert "Timeout" in refused.value.cause
    log.append(Stream.OUTCOMES, [outcome(1)])
    assert set(by_id(log, Stream.OUTCOMES)) == {"o0", "o1"}


def test_a_killed_redis_comes_back_with_what_it_acknowledged(tmp_path: Path) -> None:
    with redis_server(tmp_path, durable=True) as server:
        log = RedisEventLog(server.address, TOY)
        log.append(Stream.OUTCOMES, [outcome(0)])
        server.stop()
        with pytest.raises(Unavailable, match="cannot take outcomes"):
            log.append(Stream.OUTCOMES, [outcome(1)])
        server.start()
        log.append(Stream.OUTCOMES, [outcome(1)])
        assert [row["id"] for row in rows(log, Stream.OUTCOMES)] == ["o0", "o1"]


def test_a_redis_that_comes_back_with_other_settings_is_refused(tmp_path: Path) -> None:
    with redis_server(tmp_path, durable=True) as server:
        log = RedisEventLog(server.address, TOY)
        log.append(Stream.OUTCOMES, [outcome(0)])
        server.stop()
        forgetful = RedisServer(tmp_path)
        forgetful.port = server.port
        try:
            forgetful.start()
            causes = []
            for _ in range(2):  # the first finds its connection closed
                with pytest.raises(Unavailable) as refused:
                    log.append(Stream.OUTCOMES, [outcome(1)])
                causes.append(refused.value.cause)
        finally:
            forgetful.stop()
    assert "appendonly is no" in causes[-1]


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(Unavailable, match="not an address"):
        RedisEventLog("nonsense://x", TOY)


def test_entries_that_are_none_of_ours_are_counted_and_not_read(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    log.append(Stream.OUTCOMES, [outcome(0)])
    (key,) = empty_redis.keys()
    empty_redis.xadd(key, {"who": "knows"})
    log.append(Stream.OUTCOMES, [outcome(1)])
    assert [row["id"] for row in rows(log, Stream.OUTCOMES)] == ["o0", "o1"]
    assert log.damage().torn_files == 1


def test_an_entry_that_was_drained_is_told(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    log.append(Stream.OUTCOMES, [outcome(0)])
    (segment,) = log.segments(Stream.OUTCOMES)
    log.streams.trim(Stream.OUTCOMES, segment.name)
    with pytest.raises(NotFound, match="was drained"):
        log.read(segment)


def test_more_entries_than_a_page_are_listed_and_trimmed_up_to_one(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    for number in range(40):
        log.append(Stream.OUTCOMES, [outcome(number)])
    listed = log.segments(Stream.OUTCOMES)
    assert [row["id"] for row in rows(log, Stream.OUTCOMES)] == [f"o{number}" for number in range(40)]
    log.streams.trim(Stream.OUTCOMES, listed[30].name)
    assert log.segments(Stream.OUTCOMES) == listed[31:]
    assert log.streams.waiting(Stream.OUTCOMES) == 9


def test_services_do_not_meet(empty_redis: Any, redis_up: RedisServer) -> None:
    RedisEventLog(redis_up.address, TOY).append(Stream.OUTCOMES, [outcome(0)])
    assert RedisEventLog(redis_up.address, ServiceRef("other", "toy")).segments(Stream.OUTCOMES) == []


def test_a_service_has_keys_of_one_slot_by_namespace_and_name(empty_redis: Any, redis_up: RedisServer) -> None:
    log = RedisEventLog(redis_up.address, TOY)
    for stream in Stream:
        log.append(stream, [row_of(stream, "a")])
    keys = {key.decode() for key in empty_redis.scan_iter()}
    assert keys == {f"serinus:events:{{default/toy}}:{stream}" for stream in Stream}
    assert len({key_slot(key.encode()) for key in keys}) == 1


def test_a_collector_moves_what_predictors_of_the_release_before_left(
    empty_redis: Any, redis_up: RedisServer, tmp_path: Path
) -> None:
    stored = json.loads((BEFORE / "entries.json").read_text())
    for stream, fields in stored.items():
        empty_redis.xadd(f"serinus:events:toy:{stream}", {name: b64decode(one) for name, one in fields.items()})
    RedisEventLog(redis_up.address, TOY).append(Stream.OUTCOMES, [outcome(0)])
    log = ParquetEventLog(tmp_path)
    drain = Drain(waiting_in(redis_up.address, TOY), log)
    while drain.once():
        pass
    assert set(by_id(log, Stream.EXPOSURES)) == {"r9@toy-v1", "r8@toy-v1"}
    assert by_id(log, Stream.EXPOSURES)["r9@toy-v1"]["forced_arm"] == "stable"
    assert set(by_id(log, Stream.OUTCOMES)) == {"o9", "o0"}
    assert not any(empty_redis.xlen(key) for key in empty_redis.scan_iter())
    assert not any(drain.waiting.values())


def test_a_node_of_a_cluster_is_told_to_be_no_place_for_a_log(tmp_path: Path) -> None:
    with redis_kind("cluster", tmp_path) as cluster:
        told = []
        for server in cluster.servers:
            log = RedisStreams(server.address, TOY)
            try:
                log.add(Stream.OUTCOMES, {"rows": b"1"})
            except Unavailable as fault:
                told.append(fault.hint)
    assert set(told) == {"it is a node of a cluster; an event log takes a Redis of its own"}
    assert len(told) == 2  # the third has the slot


def test_a_file_that_is_published_while_the_folder_is_tidied_is_none_that_was_left(tmp_path: Path) -> None:
    """Predictors write while a reduction tidies: what it has just seen half-written may have its name by now."""
    folder = tmp_path / "exposures"
    folder.mkdir()
    half = folder / ".1-w.parquet.tmp"
    half.write_bytes(b"half")

    def now() -> float:
        """The writer renames it at the latest moment."""
        half.rename(tmp_path / "published")
        return 1e12

    log = ParquetEventLog(tmp_path, now=now)
    log.tidy(Stream.EXPOSURES)
    assert log.damage().torn_files == 0


@pytest.mark.parametrize("stream", Stream)
def test_a_torn_file_is_set_aside_and_counted(tmp_path: Path, stream: Stream) -> None:
    log = ParquetEventLog(tmp_path)
    for number in range(3):
        log.append(stream, [row_of(stream, f"o{number}")])
    torn = sorted((tmp_path / stream.value).glob("*.parquet"))[1]
    torn.write_bytes(torn.read_bytes()[:-20])
    again = ParquetEventLog(tmp_path)
    assert set(by_id(again, stream)) == {"o0", "o2"}
    assert again.damage().torn_files == 1
    assert again.damage().torn_files == ParquetEventLog(tmp_path).damage().torn_files


def test_temporary_files_of_living_writers_are_left_alone(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path)
    (tmp_path / "outcomes" / ".x.parquet.tmp").write_bytes(b"half")
    log.tidy(Stream.OUTCOMES)
    assert log.damage().torn_files == 0
    ParquetEventLog(tmp_path, now=lambda: 1e12).tidy(Stream.OUTCOMES)
    assert log.damage().torn_files == 1


def test_compaction_keeps_rows_order_and_leaves(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path)
    for number in range(6):
        log.append(Stream.OUTCOMES, [outcome(number)])
    leaves = [one.name for one in log.segments(Stream.OUTCOMES)]
    log.compact(Stream.OUTCOMES, log.segments(Stream.OUTCOMES)[1:3])
    assert [row["id"] for row in rows(ParquetEventLog(tmp_path), Stream.OUTCOMES)] == [f"o{i}" for i in range(6)]
    log.compact(Stream.OUTCOMES, log.segments(Stream.OUTCOMES)[:3])
    first, *rest = ParquetEventLog(tmp_path).segments(Stream.OUTCOMES)
    assert first.inputs == tuple(leaves[:4])
    assert [one.name for one in rest] == leaves[4:]
    assert [row["id"] for row in rows(ParquetEventLog(tmp_path), Stream.OUTCOMES)] == [f"o{i}" for i in range(6)]


def test_compacting_one_segment_does_nothing(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path)
    log.append(Stream.OUTCOMES, [outcome(0)])
    assert log.compact(Stream.OUTCOMES, log.segments(Stream.OUTCOMES)) is None


@pytest.mark.slow
def test_killed_at_any_operation_nothing_acknowledged_is_lost() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        done = subprocess.run([sys.executable, str(KILLS), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > 80
    assert {one["stream"] for one in kills} == set(Stream)
    assert {one["acknowledged"] for one in kills} == set(range(7))
    assert {one["torn"] for one in kills} == {0, 1}
