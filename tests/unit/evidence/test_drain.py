"""The drain by itself: order, segments, faults that pass, entries that cannot be read, and what it tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))
from memory_log import decided, exposure, inputs, outcome, row_of, scores

from serinus.core.errors import Unavailable
from serinus.core.events import BESIDE, Event, Stream
from serinus.evidence.collector import make_app
from serinus.evidence.drain import Drain, DrainSettings
from serinus.evidence.entries import Entry, encoded
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.files import DISK, Disk
from tests.disks import FullDisk

E, S, O = Stream.EXPOSURES, Stream.SCORES, Stream.OUTCOMES  # noqa: E741
PAGE = 4


class Source:
    """Entries in memory; `away` refuses everything, and `on_read` is called before each read."""

    def __init__(self) -> None:
        self.entries: dict[Stream, list[Entry]] = {stream: [] for stream in Stream}
        self.count, self.away = 0, False

    def add(self, stream: Stream, *events: Event) -> None:
        self.count += 1
        fields = {name.encode(): value for name, value in encoded(stream, events).items()}
        self.entries[stream].append(Entry(f"{self.count}-0", fields))

    def read(self, stream: Stream, after: str = "", most_bytes: int = 1) -> tuple[list[Entry], bool]:
        self._answer()
        return self.entries[stream][:PAGE], len(self.entries[stream]) >= PAGE

    def trim(self, stream: Stream, through: str) -> None:
        self._answer()
        last = int(through.split("-")[0])
        self.entries[stream] = [one for one in self.entries[stream] if int(one.id.split("-")[0]) > last]

    def waiting(self, stream: Stream) -> int:
        self._answer()
        return len(self.entries[stream])

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the event log cannot be read", cause="nobody there")


class Log(ParquetEventLog):
    """Remembers in which order segments came."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        super().__init__(folder, disk=disk)
        self.order: list[tuple[Stream, list[str]]] = []

    def append_table(self, stream: Stream, table: pa.Table) -> None:
        super().append_table(stream, table)
        self.order.append((stream, table["id"].to_pylist()))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def ids(log: ParquetEventLog, stream: Stream) -> list[str]:
    return [row for one in log.segments(stream) for row in log.read(one)["id"].to_pylist()]


def test_many_entries_become_one_segment_with_their_rows_in_order(source: Source, log: Log) -> None:
    for number in range(3):
        source.add(O, outcome(f"o{2 * number}"), outcome(f"o{2 * number + 1}"))
    drain = Drain(source, log)
    assert not drain.once()
    assert log.order == [(O, [f"o{number}" for number in range(6)])]
    assert (drain.moved[O], drain.waiting, source.entries[O]) == (6, dict.fromkeys(Stream, 0), [])


def test_nothing_waiting_writes_nothing(source: Source, log: Log) -> None:
    assert not Drain(source, log).once()
    assert log.order == []


def test_what_is_beside_exposures_is_on_disk_before_them_however_many_wait(source: Source, log: Log) -> None:
    for number in range(10):
        name = f"r{number}"
        source.add(Stream.INPUTS, inputs(name))
        source.add(Stream.DECISIONS, decided(name))
        source.add(S, scores(name))
        source.add(E, exposure(name))
    drain = Drain(source, log)
    while drain.once():
        pass
    found: dict[Stream, set[str]] = {stream: set() for stream in Stream}
    for stream, rows in log.order:
        assert stream is not E or all(found[other].issuperset(rows) for other in BESIDE)
        found[stream].update(rows)
    assert {stream: len(ids(log, stream)) for stream in Stream} == dict.fromkeys(Stream, 10) | {O: 0}


def test_what_comes_during_a_round_finds_its_scores_too(source: Source, log: Log, monkeypatch: Any) -> None:
    """A predictor writes between the two reads: its exposure is not moved before its scores, whatever the order."""
    source.add(S, scores("r0"))
    source.add(E, exposure("r0"))
    read = source.read

    def late(stream: Stream, after: str = "", most_bytes: int = 1) -> tuple[list[Entry], bool]:
        found = read(stream, after, most_bytes)
        if stream is S and source.count < 4:
            source.add(S, scores("r1"))
            source.add(E, exposure("r1"))
        return found

    monkeypatch.setattr(source, "read", late)
    drain = Drain(source, log)
    drain.once()
    assert (ids(log, S), ids(log, E)) == (["r0@toy-v1"], ["r0@toy-v1"])
    drain.once()
    assert (ids(log, S), ids(log, E)) == (["r0@toy-v1", "r1@toy-v1"],) * 2


@pytest.mark.parametrize("readable", [True, False])
def test_a_full_disk_trims_nothing(source: Source, tmp_path: Path, readable: bool) -> None:
    disk = FullDisk()
    log = Log(tmp_path, disk)
    source.add(O, outcome("o"))
    if not readable:
        source.entries[O][0].fields.pop(b"rows")  # type: ignore[attr-defined]
    drain = Drain(source, log)
    with pytest.raises(Unavailable, match="cannot take outcomes"):
        drain.once()
    assert len(source.entries[O]) == 1
    disk.full = False
    drain.once()
    assert ids(log, O) == (["o"] if readable else [])
    assert source.entries[O] == []


def test_killed_before_the_trim_the_rows_come_again_and_fold(source: Source, log: Log, monkeypatch: Any) -> None:
    source.add(O, outcome("o"))
    with monkeypatch.context() as patched:
        patched.setattr(source, "trim", lambda *_: (_ for _ in ()).throw(Unavailable("gone")))
        with pytest.raises(Unavailable):
            Drain(source, log).once()
    Drain(source, log).once()
    assert ids(log, O) == ["o", "o"]
    assert source.entries[O] == []


@pytest.mark.parametrize("stream", Stream)
def test_an_entry_that_cannot_be_read_is_set_aside_whole_and_keeps_nothing_back(
    source: Source, log: Log, caplog: pytest.LogCaptureFixture, stream: Stream
) -> None:
    source.add(stream, row_of(stream, "o0"))
    source.entries[stream].append(Entry("2-0", {b"who\xff": b"knows"}))
    source.count = 2
    source.add(stream, row_of(stream, "o1"))
    drain = Drain(source, log)
    drain.once()
    assert (ids(log, stream), drain.moved[stream], source.entries[stream]) == (["o0", "o1"], 2, [])
    assert log.damage().torn_files == 1
    assert "2-0 is set aside" in caplog.text


def test_several_sources_are_moved_each_with_what_is_beside_its_exposures_first(log: Log) -> None:
    before, now = Source(), Source()
    for name, source in (("r0", before), ("r1", now)):
        source.add(S, scores(name))
        source.add(E, exposure(name))
    drain = Drain((before, now), log)
    assert not drain.once()
    assert [(stream, rows) for stream, rows in log.order] == [
        (S, ["r0@toy-v1"]), (E, ["r0@toy-v1"]), (S, ["r1@toy-v1"]), (E, ["r1@toy-v1"]),
    ]  # fmt: skip
    assert not any((*drain.waiting.values(), *before.entries.values(), *now.entries.values()))


class Pauses:
    """Stands for the event that stops a drain: remembers how long it would have waited, and ends after some rounds."""

    def __init__(self, rounds: int, between: Any) -> None:
        self.waits: list[float] = []
        self._rounds, self._between = rounds, between

    def is_set(self) -> bool:
        return len(self.waits) >= self._rounds

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._between(len(self.waits))

    def set(self) -> None:
        self._rounds = 0


def test_a_fault_is_tried_again_later_and_later_and_forgotten_once_it_has_passed(
    source: Source, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(O, outcome("o"))
    source.away = True
    drain = Drain(source, log, DrainSettings(every=1.0, longest=10.0))

    def between(waits: int) -> None:
        source.away = waits < 5
        if waits < 6:
            assert drain.fault == "the event log cannot be read (nobody there)"

    drain._stopping = Pauses(7, between)  # type: ignore[assignment]
    drain._run()
    assert drain._stopping.waits == [2, 4, 8, 10, 10, 1, 1]  # type: ignore[attr-defined]
    assert (drain.fault, ids(log, O)) == ("", ["o"])
    assert caplog.text.count("events wait where predictors wrote them") == 1
    assert caplog.text.count("events are moved again") == 1


def test_while_more_waits_there_is_no_pause(source: Source, log: Log) -> None:
    for number in range(2 * PAGE + 1):
        source.add(E, exposure(f"r{number}", error="x", sequence=number))
    drain = Drain(source, log)
    drain._stopping = Pauses(4, lambda _: None)  # type: ignore[assignment]
    drain._run()
    assert drain._stopping.waits == [0, 0, 1, 1]  # type: ignore[attr-defined]
    assert len(ids(log, E)) == 2 * PAGE + 1


def test_a_fault_that_nobody_thought_of_does_not_end_the_drain(source: Source, log: Log, monkeypatch: Any) -> None:
    def broken(stream: Stream) -> int:
        raise ZeroDivisionError("what?")

    monkeypatch.setattr(source, "waiting", broken)
    drain = Drain(source, log)
    drain._stopping = Pauses(2, lambda _: None)  # type: ignore[assignment]
    drain._run()
    assert drain.fault == "what? (ZeroDivisionError)"


@pytest.fixture
def http(source: Source, log: Log) -> Iterator[TestClient]:
    drain = Drain(source, log, DrainSettings(every=0.01, longest=0.01))
    with TestClient(make_app(log, drain=drain)) as client:
        yield client


def until(http: TestClient, metric: str) -> str:
    """The metrics, once they hold a line."""
    shown = ""
    while metric not in shown.splitlines():
        shown = http.get("/metrics").text
    return shown


def test_the_collector_drains_and_tells_it(http: TestClient, source: Source, log: Log) -> None:
    source.add(S, scores("r"))
    source.add(E, exposure("r"))
    shown = until(http, 'serinus_drained_rows_total{stream="exposures"} 1.0')
    assert 'serinus_drained_rows_total{stream="scores"} 1.0' in shown
    assert 'serinus_drain_waiting{stream="exposures"} 0.0' in shown
    assert http.get("/readyz").json() == {"status": "ready", "drain": "up"}
    assert http.post("/v1/outcomes", json={"outcomes": [{"id": "o", "name": "n", "unit": "u", "as_of": 1}]}).is_success
    assert ids(log, O) == ["o"]


def test_without_the_source_outcomes_are_taken_all_the_same(http: TestClient, source: Source) -> None:
    until(http, "serinus_drain_up 1.0")
    source.away = True
    until(http, "serinus_drain_up 0.0")
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["drain"]) == (200, "the event log cannot be read (nobody there)")
    assert http.post("/v1/outcomes", json={"outcomes": [{"id": "o", "name": "n", "unit": "u", "as_of": 1}]}).is_success
    source.away = False
    until(http, "serinus_drain_up 1.0")
