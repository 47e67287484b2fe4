"""Exposures: written behind the request, kept while the log refuses, numbered so that losses can be counted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from toy import NOON, Counting, MemoryLog

from serinus.core.errors import Unavailable
from serinus.core.events import Decided, Event, Exposure, Scores, Stream
from serinus.serving.exposures import ExposureWriter, WriterSettings
from serinus.serving.metrics import ServingMetrics
from serinus.serving.sequence import SequenceFile

SLOW = WriterSettings(flush_every=3600.0, capacity=5, batch=2, last_tries=2)
FAST = WriterSettings(flush_every=0.001, capacity=5, batch=2, last_tries=2)


def _exposure(number: int) -> tuple[Exposure, dict[Stream, Event]]:
    at = NOON.timestamp()
    exposure = Exposure(
        f"r{number}@v1", f"r{number}", "default/toy", "v1", "1", "", "", "1", "1", 7, "ok",
        at, at, 1, False, 0, 1, 0, 1.0, "", (), "", 0,
    )  # fmt: skip
    who = exposure.id, exposure.request_id
    return exposure, {
        Stream.SCORES: Scores(*who, ("a",), (0.5,)),
        Stream.DECISIONS: Decided(*who, "v1", at, "", (), (), 1.0, (0,)),
    }


def _writer(
    log: MemoryLog, settings: WriterSettings, registry: CollectorRegistry, told: list[Unavailable] | None = None
) -> ExposureWriter:
    report = [] if told is None else told
    return ExposureWriter(log, Counting(), ServingMetrics(registry), settings, report.append)


def _count(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


def test_closing_writes_what_waits_with_scores_first_and_numbers_in_order() -> None:
    log, registry = MemoryLog(), CollectorRegistry()
    writer = _writer(log, SLOW, registry)
    for number in range(5):
        assert writer.put(*_exposure(number))
    writer.close()
    written = [one for one in log.events[Stream.EXPOSURES] if isinstance(one, Exposure)]
    assert [(one.id, one.writer, one.sequence) for one in written] == [(f"r{n}@v1", "toy.0", n) for n in range(5)]
    assert [one.id for one in log.events[Stream.SCORES]] == [one.id for one in written]
    assert _count(registry, "serinus_exposures_written_total") == 5


def test_what_is_beside_an_exposure_is_on_disk_before_it_and_counted() -> None:
    class Ordered(MemoryLog):
        def append(self, stream: Stream, events: Sequence[Event]) -> None:
            super().append(stream, events)
            shown = [one.id for one in self.events[Stream.EXPOSURES]]
            for other in (Stream.SCORES, Stream.DECISIONS):
                assert set(shown) <= {one.id for one in self.events[other]}

    registry = CollectorRegistry()
    writer = _writer(Ordered(), SLOW, registry)
    for number in range(3):
        assert writer.put(*_exposure(number))
    writer.close()
    written = {stream.value: _count(registry, "serinus_log_rows_total", stream=stream.value) for stream in Stream}
    assert written == {"exposures": 3, "scores": 3, "decisions": 3, "inputs": 0, "outcomes": 0}


def test_rows_reach_the_log_without_closing() -> None:
    log, registry = MemoryLog(), CollectorRegistry()
    writer = _writer(log, FAST, registry)
    writer.put(*_exposure(0))
    for _ in range(2000):
        if log.events[Stream.EXPOSURES]:
            break
        writer._thread.join(0.005)
    assert len(log.events[Stream.EXPOSURES]) == 1
    writer.close()


def test_what_finds_no_room_is_lost_counted_and_leaves_a_gap() -> None:
    log, registry = MemoryLog(), CollectorRegistry()
    log.refuses = True
    writer = _writer(log, SLOW, registry)
    assert [writer.put(*_exposure(number)) for number in range(7)] == [True] * 5 + [False] * 2
    assert _count(registry, "serinus_exposures_lost_total", reason="full") == 2
    log.refuses = False
    writer.close()
    assert not writer.put(*_exposure(7))
    assert _count(registry, "serinus_exposures_lost_total", reason="closed") == 1
    assert [one.sequence for one in log.events[Stream.EXPOSURES]] == [0, 1, 2, 3, 4]


def test_rows_are_kept_while_the_log_refuses_and_written_once_it_recovers() -> None:
    log, registry, told = MemoryLog(), CollectorRegistry(), []
    log.refuses = True
    writer = _writer(log, FAST, registry, told)
    for number in range(3):
        assert writer.put(*_exposure(number))
    for _ in range(2000):
        if told:
            break
        writer._thread.join(0.005)
    assert told[0].headline == "the disk is full"
    log.refuses = False
    writer.close()
    assert [one.id for one in log.events[Stream.EXPOSURES]] == ["r0@v1", "r1@v1", "r2@v1"]
    assert _count(registry, "serinus_exposures_lost_total", reason="unwritten") == 0


def test_a_fault_that_nobody_thought_of_is_told_and_counted_like_any_other() -> None:
    class Broken(MemoryLog):
        def append(self, stream: Stream, events: object) -> None:
            raise TypeError("sequence item 0: expected a bytes-like object")

    registry, told = CollectorRegistry(), []
    writer = _writer(Broken(), FAST, registry, told)
    writer.put(*_exposure(0))
    writer.close()
    assert _count(registry, "serinus_exposures_lost_total", reason="unwritten") == 1
    assert "TypeError: sequence item 0" in told[0].cause


def test_what_cannot_be_written_at_the_end_is_counted() -> None:
    log, registry = MemoryLog(), CollectorRegistry()
    log.refuses = True
    writer = _writer(log, FAST, registry)
    writer.put(*_exposure(0))
    writer.close()
    assert _count(registry, "serinus_exposures_lost_total", reason="unwritten") == 1


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    first = SequenceFile(tmp_path, "v1")
    assert [first.next(), first.next()] == [0, 1]
    first.close()
    again = SequenceFile(tmp_path, "v1")
    assert (again.writer, again.next()) == (first.writer, 2)
    again.close()


def test_writers_of_a_revision_have_names_and_counts_of_their_own(tmp_path: Path) -> None:
    first, second, other = (SequenceFile(tmp_path, name) for name in ("v1", "v1", "v1.x"))
    assert len({first.writer, second.writer, other.writer}) == 3
    assert (first.next(), second.next(), other.next()) == (0, 0, 0)
    first.close()
    third = SequenceFile(tmp_path, "v1")
    assert (third.writer, third.next()) == (first.writer, 1)
    for one in (second, third, other):
        one.close()


def test_where_the_count_is_gone_the_next_writer_has_another_name(tmp_path: Path) -> None:
    first = SequenceFile(tmp_path / "pod", "v1")
    second = SequenceFile(tmp_path / "next pod", "v1")
    assert first.writer.startswith("v1.")
    assert first.writer != second.writer
    first.close()
    second.close()


def test_a_kill_does_not_take_numbers_back(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from serinus.serving.sequence import SequenceFile\n"
        "s = SequenceFile(Path(sys.argv[1]), 'v1'); [s.next() for _ in range(41)]; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    after = SequenceFile(tmp_path, "v1")
    assert after.next() == 41
    after.close()


@pytest.mark.parametrize("missing", ["folder", "nested/folder"])
def test_the_folder_is_made(tmp_path: Path, missing: str) -> None:
    sequence = SequenceFile(tmp_path / missing, "v1")
    assert (tmp_path / missing / sequence.writer).exists()
    sequence.close()
