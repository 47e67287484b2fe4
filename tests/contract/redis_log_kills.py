"""Kills a predictor's writer and a drain at every step: `redis_log_kills.py FOLDER`; one JSON line a kill.

A step is a command to Redis, an operation on the collector's disk, or a row that is put. Each attempt is a fork of this
process, killed by SIGKILL before, after or in the middle of its n-th step: a command that was sent and whose answer
nobody read, a file half written. A second fork then goes on from what is left. Redis itself lives on: it is killed by
test_redis_log_kills.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit/evidence"))
import numpy as np
import redis
from event_log_kills import MODES, KillingDisk, forked, tell
from memory_log import TOY, decided, exposure, inputs, outcome, scores
from prometheus_client import CollectorRegistry
from servers import redis_server

from serinus.core.events import BESIDE, Event, Stream
from serinus.evidence import redis_streams
from serinus.evidence.drain import Drain, DrainSettings
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.redis_log import RedisEventLog
from serinus.evidence.redis_streams import RedisEventSink, RedisStreams
from serinus.evidence.state import Written
from serinus.serving.exposures import ExposureWriter, WriterSettings
from serinus.serving.metrics import ServingMetrics
from serinus.serving.sequence import SequenceFile

REQUESTS = 3
Attempt = Callable[[Path, KillingDisk], None]
Rows = dict[str, dict[str, Any]]


def beside(request: str) -> dict[Stream, Event]:
    """What a predictor writes before the exposure of a request."""
    return {Stream.INPUTS: inputs(request), Stream.DECISIONS: decided(request), Stream.SCORES: scores(request)}


def tapped(streams: RedisStreams, disk: KillingDisk) -> RedisStreams:
    """Commands are steps of the same count as what the disk does."""
    client = streams._client
    execute = client.execute_command

    def step(*command: Any, **options: Any) -> Any:
        answers: list[Any] = []
        disk.step(lambda: answers.append(execute(*command, **options)), lambda: _sent(client, command))
        return answers[0]

    client.execute_command = step
    return streams


def _sent(client: Any, command: Sequence[Any]) -> None:
    connection = client.connection_pool.get_connection()
    connection.send_command(*command)


class Notes:
    """What a process that will be killed had been told until then: lines of a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notes"

    def add(self, *line: str) -> None:
        with self.path.open("a") as file:
            file.write(" ".join(line) + "\n")

    def of(self, kind: str) -> list[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [one.split(" ", 1)[1] for one in lines if one.startswith(f"{kind} ")]


class Sink:
    """Notes what was acknowledged."""

    def __init__(self, sink: RedisEventSink, notes: Notes) -> None:
        self._sink, self._notes = sink, notes

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        self._sink.append(stream, events)
        for one in events:
            self._notes.add(stream.value, one.id)


@contextmanager
def writer(folder: Path, address: str, notes: Notes, disk: KillingDisk | None = None) -> Iterator[ExposureWriter]:
    """A predictor's, of two rows a batch, that begins to write when it is closed."""
    sink = RedisEventSink(address, TOY)
    if disk is not None:
        tapped(sink.streams, disk)
    sequence = SequenceFile(folder / "writers", "toy-v1")
    metrics = ServingMetrics(CollectorRegistry())
    made = ExposureWriter(Sink(sink, notes), sequence, metrics, WriterSettings(flush_every=60.0, batch=2))
    try:
        yield made
    finally:
        made.close()
        sequence.close()


def predict(address: str) -> Attempt:
    """A predictor that answers some requests and is asked to end."""

    def attempt(folder: Path, disk: KillingDisk) -> None:
        notes = Notes(folder)
        with writer(folder, address, notes, disk) as open_writer:
            for number in range(REQUESTS):
                row = exposure(f"r{number}"), beside(f"r{number}")
                disk.step(lambda row=row: _put(open_writer, notes, row))  # type: ignore[misc]

    return attempt


def _put(open_writer: ExposureWriter, notes: Notes, row: Any) -> None:
    assert open_writer.put(*row)
    notes.add("put", row[0].id)


def check_predicted(folder: Path, address: str) -> dict[str, object]:
    """Acknowledged is there, an exposure has its scores, and what was given a number and is not there is counted."""
    notes = Notes(folder)
    told, put = set(notes.of("exposures")), notes.of("put")
    with writer(folder, address, notes) as again:
        again.put(exposure("last"), beside("last"))
    found = moved(folder, address)
    exposures = found[Stream.EXPOSURES]
    assert told <= set(exposures), told - set(exposures)
    assert all(set(exposures) <= set(found[stream]) for stream in BESIDE)
    assert len({one["writer"] for one in exposures.values()}) == 1, "the count goes on under the same name"
    written = Written().with_rows(np.array([one["sequence"] for one in exposures.values()]))
    given = exposures["last@toy-v1"]["sequence"]
    assert written.next == given + 1
    assert written.lost == given - (len(exposures) - 1)
    assert len(put) <= given <= len(put) + 1, "one may have been given out and not told"
    return {"who": "predictor", "put": len(put), "acknowledged": len(told), "lost": written.lost}


def drain(address: str) -> Attempt:
    """A collector that finds events of three requests, some entries a page."""

    def attempt(folder: Path, disk: KillingDisk) -> None:
        log = ParquetEventLog(folder / "log", disk=disk)
        streams = tapped(RedisStreams(address, TOY), disk)
        rounds = Drain(streams, log, DrainSettings(segment_bytes=1))
        while rounds.once():
            pass

    return attempt


def fill(address: str) -> None:
    """As predictors write it, and one outcome."""
    sink = RedisEventSink(address, TOY)
    for number in range(REQUESTS):
        for stream, row in beside(f"r{number}").items():
            sink.append(stream, [row])
        sink.append(Stream.EXPOSURES, [exposure(f"r{number}", sequence=number)])
    sink.append(Stream.OUTCOMES, [outcome("o")])


def check_drained(folder: Path, address: str) -> dict[str, object]:
    """Every row is in the files or still in Redis, and the next drain moves what is left."""
    left = held(ParquetEventLog(folder / "log"))
    for stream in BESIDE:
        assert set(left[Stream.EXPOSURES]) <= set(left[stream]), f"an exposure on disk has its {stream}"
    waiting = held(RedisEventLog(address, TOY))
    for stream, rows in left.items():
        assert len(set(rows) | set(waiting[stream])) == (1 if stream is Stream.OUTCOMES else REQUESTS)
    found = moved(folder, address)
    expected = [exposure(f"r{number}", sequence=number) for number in range(REQUESTS)]
    assert [(one.id, one.sequence) for one in expected] == [
        (name, row["sequence"]) for name, row in sorted(found[Stream.EXPOSURES].items())
    ]
    assert found[Stream.SCORES]["r2@toy-v1"]["probabilities"] == [0.6, 0.3, 0.1]
    assert found[Stream.DECISIONS]["r2@toy-v1"]["order"] == [0, 1, 2]
    assert found[Stream.INPUTS]["r2@toy-v1"]["row"] == [0.5, 2.0]
    assert set(found[Stream.OUTCOMES]) == {"o"}
    return {"who": "drain", "on disk": sum(map(len, left.values())), "in redis": sum(map(len, waiting.values()))}


def moved(folder: Path, address: str) -> dict[Stream, Rows]:
    """What is in the files once a collector has moved everything."""
    log, streams = ParquetEventLog(folder / "log"), RedisStreams(address, TOY)
    rounds = Drain(streams, log)
    while rounds.once():
        pass
    assert not any(rounds.waiting.values())
    return held(log)


def held(log: ParquetEventLog | RedisEventLog) -> dict[Stream, Rows]:
    """Rows by stream and id; one that came twice is the same twice."""
    found: dict[Stream, Rows] = {stream: {} for stream in Stream}
    for stream, rows in found.items():
        for row in (row for one in log.segments(stream) for row in log.read(one).to_pylist()):
            assert rows.setdefault(row["id"], row) == row
    return found


def main(root: Path) -> None:
    """All modes, all steps of both, until an attempt gets through."""
    redis_streams._PAGE = 2
    with redis_server(root, durable=True) as server:
        at = server.address
        killed_everywhere(root / "predictor", at, predict(at), check_predicted)
        killed_everywhere(root / "drain", at, drain(at), check_drained, lambda: fill(at))


def killed_everywhere(
    root: Path,
    address: str,
    attempt: Attempt,
    check: Callable[[Path, str], dict[str, object]],
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Raises `SystemExit` when what was left is wrong."""
    for mode in MODES:
        for at in range(1_000):
            folder = root / f"{mode}-{at}"
            folder.mkdir(parents=True)
            with redis.Redis.from_url(address) as client:
                client.flushall()
            prepare()
            status = forked(lambda f=folder, a=at, m=mode: attempt(f, KillingDisk(a, m)))  # type: ignore[misc]
            killed = os.WIFSIGNALED(status)
            if not killed and os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit(f"{root.name} {mode} {at}: it broke")
            checked = forked(lambda f=folder, m=mode: tell(check(f, address) | {"mode": m}))  # type: ignore[misc]
            if os.waitstatus_to_exitcode(checked):
                raise SystemExit(f"{root.name} {mode} {at}: what was left is wrong")
            if not killed:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
