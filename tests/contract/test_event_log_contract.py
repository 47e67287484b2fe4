"""What every event log must do, whatever it is made of."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serinus.core.errors import Unavailable
from serinus.core.events import Event, Exposure, Outcome, Scores, Stream
from serinus.evidence.disk import Disk
from serinus.evidence.log import EventLog
from serinus.evidence.parquet_log import ParquetEventLog

MakeLog = Callable[..., EventLog]
KILLS = Path(__file__).with_name("event_log_kills.py")


@pytest.fixture(params=["parquet"])
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLog:
    """A log of each kind over one place; called again, another process's view of it."""
    assert request.param == "parquet"
    return lambda **options: ParquetEventLog(tmp_path / "log", **options)


def exposure(number: int, **changes: Any) -> Exposure:
    values: dict[str, Any] = {
        "id": f"r{number}@v", "request_id": f"r{number}", "service": "toy", "revision": "v", "version": "1", "arm": "",
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
        (Stream.EXPOSURES, [exposure(0), exposure(1, error="BundleError", arm="canary", at=math.inf)]),
        (Stream.SCORES, [Scores("a", "r", ("x", "ü", ""), (0.1, 1 / 3, 1e-300)), Scores("b", "r", (), ())]),
        (Stream.OUTCOMES, [outcome(0), outcome(1, value=-2.5, request_id="r", item="x" * 300)]),
    ],
)
def test_rows_come_back_as_they_were(make_log: MakeLog, stream: Stream, events: list[Event]) -> None:
    make_log().append(stream, events)
    assert rows(make_log(), stream) == [_plain(event) for event in events]


def test_rows_keep_the_order_of_appending(make_log: MakeLog) -> None:
    log = make_log()
    for number in range(0, 20, 2):
        log.append(Stream.OUTCOMES, [outcome(number), outcome(number + 1)])
    assert [row["id"] for row in rows(make_log(), Stream.OUTCOMES)] == [f"o{number}" for number in range(20)]


def test_some_columns_can_be_read_alone(make_log: MakeLog) -> None:
    log = make_log()
    log.append(Stream.OUTCOMES, [outcome(0)])
    (segment,) = log.segments(Stream.OUTCOMES)
    assert segment.rows == 1
    assert log.read(segment, ["at", "id"]).to_pylist() == [{"at": 2.0, "id": "o0"}]


def test_streams_do_not_meet(make_log: MakeLog) -> None:
    log = make_log()
    log.append(Stream.OUTCOMES, [outcome(0)])
    assert log.segments(Stream.EXPOSURES) == []


def test_appending_nothing_leaves_nothing(make_log: MakeLog) -> None:
    log = make_log()
    log.append(Stream.OUTCOMES, [])
    assert log.segments(Stream.OUTCOMES) == []


def test_a_reader_sees_what_was_appended_after_it_first_looked(make_log: MakeLog) -> None:
    writer, reader = make_log(), make_log()
    assert reader.segments(Stream.OUTCOMES) == []
    for number in range(3):
        writer.append(Stream.OUTCOMES, [outcome(number)])
        assert len(rows(reader, Stream.OUTCOMES)) == number + 1


def test_a_row_appended_again_folds_by_id(make_log: MakeLog) -> None:
    log = make_log()
    for _ in range(2):
        log.append(Stream.OUTCOMES, [outcome(7)])
    assert by_id(log, Stream.OUTCOMES) == {"o7": _plain(outcome(7))}


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


class FullDisk(Disk):
    """No space left while `full`."""

    full = True

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            super().write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, data)


def test_a_full_disk_refuses_the_whole_batch_and_the_next_one_goes_on(make_log: MakeLog) -> None:
    disk = FullDisk()
    log = make_log(disk=disk)
    with pytest.raises(Unavailable, match="cannot take outcomes") as refused:
        log.append(Stream.OUTCOMES, [outcome(0), outcome(1)])
    assert "No space left" in refused.value.cause
    assert rows(make_log(), Stream.OUTCOMES) == []
    disk.full = False
    log.append(Stream.OUTCOMES, [outcome(1)])
    assert set(by_id(make_log(), Stream.OUTCOMES)) == {"o1"}
    assert log.damage().torn_files == 0


def test_a_torn_file_is_set_aside_and_counted(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path)
    for number in range(3):
        log.append(Stream.OUTCOMES, [outcome(number)])
    torn = sorted((tmp_path / "outcomes").glob("*.parquet"))[1]
    torn.write_bytes(torn.read_bytes()[:-20])
    again = ParquetEventLog(tmp_path)
    assert set(by_id(again, Stream.OUTCOMES)) == {"o0", "o2"}
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
    # In memory where there is such a folder: what is killed is the process, not the disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = subprocess.run([sys.executable, str(KILLS), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > 80
    assert {one["acknowledged"] for one in kills} == set(range(7))
    assert {one["torn"] for one in kills} == {0, 1}
