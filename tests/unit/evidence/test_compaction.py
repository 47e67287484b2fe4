"""Segments that were read become few, and nothing is read twice, lost, or judged differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memory_log import DAY, START, decided, exposure, inputs, outcome, scores

from serinus.core.card import Problem
from serinus.core.events import Stream
from serinus.evidence.compaction import compaction
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder

MOST = 4


def _fill(log: ParquetEventLog, first: int, count: int) -> None:
    """A segment a request in every stream."""
    for number in range(first, first + count):
        name = f"r{number}"
        log.append(Stream.INPUTS, [inputs(name)])
        log.append(Stream.DECISIONS, [decided(name)])
        log.append(Stream.SCORES, [scores(name)])
        log.append(Stream.EXPOSURES, [exposure(name, sequence=number)])
        log.append(Stream.OUTCOMES, [outcome(f"o{number}", name, "b")])


def _segments(log: ParquetEventLog) -> list[int]:
    return [len(log.segments(stream)) for stream in Stream]


def test_read_segments_are_merged_once_and_never_read_again(tmp_path: Path, retail_card: Problem) -> None:
    log, plain = ParquetEventLog(tmp_path / "log"), ParquetEventLog(tmp_path / "plain")
    plan = KpiPlan.of(retail_card)
    tidied = KpiReducer(log, StateFolder(tmp_path / "a"), plan, compaction(log, MOST))
    other = KpiReducer(plain, StateFolder(tmp_path / "b"), plan)
    for first, now in ((0, START + DAY), (5, START + 2 * DAY), (7, START + 31 * DAY)):
        for one in (log, plain):
            _fill(one, first, 5 if first == 0 else 2)
        assert tidied.reduce(now) == other.reduce(now)
        assert tidied.rows().to_pylist() == other.rows().to_pylist()
    assert _segments(plain) == [9] * 5
    assert _segments(log) == [2] * 5  # the five of the first run, and the four after it
    assert sorted(log.read(one).num_rows for one in log.segments(Stream.EXPOSURES)) == [4, 5]
    assert tidied.reduce(START + 32 * DAY).duplicates == 0


def test_what_was_not_read_stays_as_it_is(tmp_path: Path) -> None:
    log = ParquetEventLog(tmp_path / "log")
    _fill(log, 0, MOST + 2)
    names = [one.name for one in log.segments(Stream.EXPOSURES)]
    compaction(log, MOST)({Stream.EXPOSURES.value: names[:3]})
    assert _segments(log) == [MOST + 2] * 5
    compaction(log, MOST)({Stream.EXPOSURES.value: names[:MOST]})
    assert len(log.segments(Stream.EXPOSURES)) == 3
    assert len(log.segments(Stream.SCORES)) == MOST + 2


@pytest.mark.parametrize("requests", [20, 2_000], ids=["as it comes", "packed"])
def test_what_repeats_within_lists_takes_about_a_byte_an_item(tmp_path: Path, requests: int) -> None:
    """Items and their order are most of the log; parquet names the values of a list by another name than the list."""
    rng, log = np.random.default_rng(0), ParquetEventLog(tmp_path)
    orders = [tuple(rng.permutation(100).tolist()) for _ in range(requests)]
    log.append(Stream.DECISIONS, [replace(decided(f"r{n}"), order=order) for n, order in enumerate(orders)])
    (file,) = (tmp_path / Stream.DECISIONS).iterdir()
    assert file.stat().st_size < 1.2 * requests * 100 + 8_000
