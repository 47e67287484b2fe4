"""kill -9 of a predictor's writer, of a drain and of Redis at every point: nothing acknowledged is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/evidence"))
from memory_log import TOY, decided, exposure, inputs, outcome, scores

from serinus.core.errors import Unavailable
from serinus.core.events import Event, Stream
from serinus.evidence import redis_streams
from serinus.evidence.drain import Drain, DrainSettings
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_log import RedisEventLog
from serinus.evidence.redis_streams import RedisEventSink, RedisStreams
from tests.servers import MEMORY, RedisServer, redis_server

pytestmark = pytest.mark.slow
KILLS = Path(__file__).with_name("redis_log_kills.py")
WORK: list[tuple[Stream, list[Event]]] = [
    (Stream.INPUTS, [inputs("r1")]),
    (Stream.DECISIONS, [decided("r0"), decided("r1")]),
    (Stream.SCORES, [scores("r0"), scores("r1")]),
    (Stream.EXPOSURES, [exposure("r0"), exposure("r1", sequence=1)]),
    (Stream.OUTCOMES, [outcome("o")]),
]


def test_writer_and_drain_killed_at_any_step_lose_nothing_acknowledged_and_count_the_rest() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        done = subprocess.run([sys.executable, str(KILLS), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    writers = [one for one in kills if one["who"] == "predictor"]
    drains = [one for one in kills if one["who"] == "drain"]
    assert len(writers) > 20
    assert len(drains) > 80
    assert {one["lost"] for one in writers} == {0, 1, 2, 3}
    assert {one["acknowledged"] for one in writers} == {0, 2, 3}
    # Nine rows beside exposures come first, two pages a stream; then an outcome, and the exposures. Between
    # the segment and the trim the rows are in both.
    assert {one["on disk"] for one in drains} == {0, 2, 3, 5, 6, 8, 9, 10, 12, 13}
    assert max(one["on disk"] + one["in redis"] for one in drains) == 15


class Killer:
    """Kills Redis at the n-th command of this process: before it is sent, when it was sent, or after its answer.

    The last loses the answer: the command was done, and who sent it does not know.
    """

    def __init__(self, server: RedisServer, at: int, mode: str) -> None:
        self.server, self.at, self.mode = server, at, mode
        self.count, self.killed, self.waits, self.down = 0, False, False, False

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """To every connection."""
        send, read = redis.Connection.send_command, redis.Connection.read_response
        monkeypatch.setattr(redis.Connection, "send_command", lambda one, *a, **k: self.send(send, one, *a, **k))
        monkeypatch.setattr(redis.Connection, "read_response", lambda one, *a, **k: self.read(read, one, *a, **k))

    def send(self, send: Callable[..., Any], connection: Any, *command: Any, **options: Any) -> None:
        mine = self.count == self.at and not self.killed
        self.count += 1
        if mine and self.mode == "before":
            self.kill()
        send(connection, *command, **options)
        if mine and self.mode == "sent":
            self.kill()
        self.waits = self.waits or (mine and self.mode == "answered")

    def read(self, read: Callable[..., Any], connection: Any, *arguments: Any, **options: Any) -> Any:
        found = read(connection, *arguments, **options)
        if self.waits:
            self.kill()
            raise redis.ConnectionError("the answer is lost")
        return found

    def kill(self) -> None:
        self.killed, self.waits, self.down = True, False, True
        self.server.stop()

    def revive(self) -> None:
        if self.down:
            self.server.start()
        self.down = False


def _held(log: ParquetEventLog | RedisEventLog, stream: Stream) -> set[str]:
    return {name for one in log.segments(stream) for name in log.read(one)["id"].to_pylist()}


@pytest.mark.parametrize("mode", ["before", "sent", "answered"])
def test_redis_killed_at_any_command_keeps_what_it_acknowledged(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a writer and of a drain, the checks of a new connection included; whoever was told nothing tries again."""
    monkeypatch.setattr(redis_streams, "_PAGE", 1)
    points = 0
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, redis_server(Path(folder), durable=True) as server:
        for at in range(1_000):
            redis.Redis.from_url(server.address).flushall()
            with monkeypatch.context() as patched:
                killer = Killer(server, at, mode)
                killer.attach(patched)
                _written_and_drained(killer, ParquetEventLog(tmp_path / f"log-{at}"))
            killer.revive()  # where the last answer had come before the kill
            if not killer.killed:
                break
            points += 1
    assert points > 25


def _written_and_drained(killer: Killer, log: ParquetEventLog) -> None:
    sink, streams = RedisEventSink(killer.server.address, TOY), RedisStreams(killer.server.address, TOY)
    acknowledged: list[tuple[Stream, str]] = []
    for stream, events in WORK:
        _until_done(killer, lambda s=stream, e=events: sink.append(s, e), log, acknowledged)
        acknowledged += [(stream, one.id) for one in events]
    drain = Drain(streams, log, DrainSettings(segment_bytes=1))
    more = True
    while more:
        more = _until_done(killer, drain.once, log, acknowledged)
    _require(log, acknowledged)
    assert all(one == 0 for one in drain.waiting.values())


def _until_done(killer: Killer, work: Callable[[], Any], log: ParquetEventLog, told: list[tuple[Stream, str]]) -> Any:
    """As the writer and the drain do it: whatever failed is done again once Redis is back."""
    try:
        return work()
    except Unavailable:
        assert killer.killed
        killer.revive()
        _require(log, told, RedisEventLog(killer.server.address, TOY))
        return work()


def _require(log: ParquetEventLog, told: list[tuple[Stream, str]], redis_log: RedisEventLog | None = None) -> None:
    for stream, name in told:
        assert name in _held(log, stream) | (_held(redis_log, stream) if redis_log else set())
