"""KPI rows in few files: what merging keeps, what it costs over thousands of reductions, and what is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_log import DAY, START, MemoryLog, exposure, outcome, scores

from serinus.core.card import Problem
from serinus.core.events import Stream
from serinus.evidence.kpi_files import GENERATION, Keep, closed_after, merged
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import KpiFile, State, StateFolder
from serinus.files import Disk

EMPTY = pa.schema([("id", pa.string()), ("as_of", pa.float64()), GENERATION]).empty_table()


class QuickDisk(Disk):
    """Waits for nothing."""

    def sync(self, path: Path) -> None:
        """Not at all."""


class Counting(StateFolder):
    """Counts the tables opened and the rows read of them since `reset`."""

    opened = rows = 0

    def reset(self) -> tuple[int, int]:
        found, self.opened, self.rows = (self.opened, self.rows), 0, 0
        return found

    def get(self, name: str) -> pa.Table:
        return self._counted(super().get(name))

    def parts(self, *args: Any, **options: Any) -> Iterator[pa.Table]:
        self.opened += 1
        for part in super().parts(*args, **options):
            self.rows += len(part)
            yield part

    def _counted(self, table: pa.Table) -> pa.Table:
        self.opened += 1
        self.rows += len(table)
        return table


class Service:
    """A log in memory and its reduction, of one request after the other."""

    def __init__(self, folder: Path, card: Problem, keep: float = math.inf, since: float = math.inf) -> None:
        self.log, self.plan, self.folder, self.keep = MemoryLog(), KpiPlan.of(card), folder, keep
        self.since = since
        self.state = Counting(folder, disk=QuickDisk())
        self.restart()

    def restart(self) -> None:
        """As another process would go on."""
        self.reducer = KpiReducer(self.log, self.state, self.plan, keep=Keep(self.keep, lambda: self.since))

    def ask(self, number: int, at: float) -> None:
        name = f"r{number}"
        self.log.append(Stream.SCORES, [scores(name)])
        self.log.append(Stream.EXPOSURES, [exposure(name, at=at, sequence=number)])

    def files(self) -> int:
        return len(self.state.load().kpi_files)


@pytest.mark.slow
def test_three_thousand_reductions_leave_few_files_and_none_costs_more_for_it(
    tmp_path: Path, retail_card: Problem
) -> None:
    """One request each, every two seconds. Counted are tables and rows that a reduction read; merging is spread."""
    card = _at_once(retail_card)
    service, costs = Service(tmp_path, card), list[tuple[int, int]]()
    service.log = log = _Forgetful()
    service.restart()
    for number in range(3_000):
        now = START + 2.0 * number
        service.ask(number, now)
        service.reducer.reduce(now)
        log.forget()
        costs.append(service.state.reset())
        assert service.files() <= 2 + math.log2(number + 1)
    assert len(service.reducer.rows()) == 3_000
    tenth = 300
    opened, rows = ([sum(one[k] for one in part) / tenth for part in (costs[:tenth], costs[-tenth:])] for k in (0, 1))
    assert opened[1] <= opened[0] + 1
    assert rows[1] <= 3 * math.log2(3_000)


class _Forgetful(MemoryLog):
    """Lists what is new only: the cost of a long list is another matter."""

    def forget(self) -> None:
        self.tables = {stream: {} for stream in Stream}


def _at_once(card: Problem) -> Problem:
    """With the KPIs that are known at once."""
    kpis = tuple(kpi for kpi in card.requirements.kpis if kpi.formula.known_at_once)
    return card.model_copy(update={"requirements": card.requirements.model_copy(update={"kpis": kpis})})


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(0, 40))
@settings(max_examples=40)
def test_merging_keeps_the_order_of_closing_and_what_came_after_any_reduction(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], after: int
) -> None:
    folder = StateFolder(tmp_path_factory.mktemp("reduced"), disk=QuickDisk())
    files, expected, whole = tuple[KpiFile, ...](), list[tuple[int, str]](), EMPTY
    for number, size in enumerate(sizes, 1):
        table = _rows(number, size)
        expected += [(number, name) for name in table["id"].to_pylist()]
        name = folder.put(f"kpi-{number}", table)
        files += (KpiFile(name=name, rows=size, first=float(number), last=float(number), since=number, until=number),)
        files = merged(folder, files, f"merged-{number}", whole, Keep())
        folder.save(State(generation=number, kpi_files=files))
        assert all(one.rows >= 2 * other.rows for one, other in pairwise(files))
    found = closed_after(folder, whole, after)
    pairs = zip(found["generation"].to_pylist(), found["id"].to_pylist(), strict=True)
    assert list(pairs) == [one for one in expected if one[0] > after]


def _rows(number: int, size: int) -> pa.Table:
    table = pa.table({"id": [f"{number}-{i}" for i in range(size)], "as_of": [float(number)] * size})
    return table.append_column("generation", pa.array([number] * size, pa.int64()))


def test_a_reader_follows_a_merge_that_takes_the_files_from_under_it(tmp_path: Path) -> None:
    class Merging(StateFolder):
        """After the state was read for the first time, another process merges."""

        merged = False

        def load(self) -> State:
            state = super().load()
            if not self.merged:
                self.merged = True
                whole = merged(self, state.kpi_files, "merged", EMPTY, Keep())
                self.save(State(generation=3, kpi_files=whole))
            return state

    folder = StateFolder(tmp_path)
    files = tuple(
        KpiFile(name=folder.put(f"k{n}", _rows(n, 2)), rows=2, first=n, last=n, since=n, until=n) for n in (1, 2)
    )
    folder.save(State(generation=2, kpi_files=files))
    found = closed_after(Merging(tmp_path), EMPTY, 0)
    assert found["generation"].to_pylist() == [1, 1, 2, 2]
    assert [one.name for one in folder.load().kpi_files] == ["merged"]


def test_files_that_are_missing_are_a_fault_and_no_endless_loop(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.save(State(generation=1, kpi_files=(KpiFile(name="gone", rows=1, first=1, last=1, since=1, until=1),)))
    with pytest.raises(FileNotFoundError):
        closed_after(folder, EMPTY, 0)


def test_rows_that_nobody_needs_are_dropped_and_the_others_stay_whole(tmp_path: Path, retail_card: Problem) -> None:
    """Forty days are kept: disk and files stay as they are, however long it goes on."""
    service, most = Service(tmp_path, _at_once(retail_card), keep=40 * DAY), 0
    for number in range(240):
        now = START + number * DAY
        service.ask(number, now)
        service.reducer.reduce(now)
        names = service.reducer.rows()["request_id"].to_pylist()
        kept = [f"r{one}" for one in range(max(0, number - 40), number + 1)]
        assert names[-len(kept) :] == kept
        most = max(most, len(names))
    assert most <= 4 * 40
    assert service.reducer.reduce(now).exposures == 240


def test_rows_that_somebody_reads_stay_however_old(tmp_path: Path, retail_card: Problem) -> None:
    service, now = Service(tmp_path, _at_once(retail_card), keep=40 * DAY, since=START + 9 * DAY), START
    for number in range(200):
        now = START + number * DAY
        service.ask(number, now)
        service.reducer.reduce(now)
    names = [row["request_id"] for row in service.reducer.rows().to_pylist()]
    assert set(names) >= {f"r{number}" for number in range(9, 200)}
    service.since = math.inf
    service.restart()
    service.ask(200, now + 100 * DAY)
    service.reducer.reduce(now + 100 * DAY)
    assert [row["request_id"] for row in service.reducer.rows().to_pylist()] == ["r200"]


@pytest.mark.parametrize("pause", [1, 3])
def test_a_replay_after_live_traffic_finds_its_rows_and_is_dropped_once_newer_ones_close(
    tmp_path: Path, retail_card: Problem, pause: int
) -> None:
    """Event time goes back for years, and nobody reads; now and then nothing closes."""
    service, live = Service(tmp_path, _at_once(retail_card), keep=40 * DAY), START + 5_000 * DAY
    service.ask(0, live)
    service.reducer.reduce(live)
    for number in range(1, 40):
        service.ask(number, START + number * DAY)
        if number % pause == 0:
            service.reducer.reduce(START + number * DAY)
    service.reducer.reduce(live)
    assert {row["request_id"] for row in service.reducer.rows().to_pylist()} >= {f"r{one}" for one in range(1, 40)}
    for number in range(40, 140):
        service.ask(number, live + number * DAY)
        service.reducer.reduce(live + number * DAY)
    found = {row["request_id"] for row in service.reducer.rows().to_pylist()}
    assert f"r{39}" not in found
    assert found >= {f"r{one}" for one in range(99, 140)}


@pytest.mark.parametrize("restarts", [False, True])
def test_what_comes_again_and_what_comes_late_is_seen_across_merges(
    tmp_path: Path, retail_card: Problem, restarts: bool
) -> None:
    service = Service(tmp_path, _at_once(retail_card))
    for number in range(60):
        now = START + number * 60.0
        service.ask(number, now)
        if number >= 7:
            service.ask(number - 7, now - 7 * 60.0)
            name = f"r{number - 3}"
            service.log.append(Stream.OUTCOMES, [outcome(f"o{number}", name, "b", at=now)])
        if restarts:
            service.restart()
        counters = service.reducer.reduce(now)
    assert (counters.exposures, counters.duplicates, counters.late) == (60, 53, 53)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, 0.6, 1.3, 40.0, 300.0])), max_size=25))
@settings(max_examples=15)
def test_a_process_that_goes_on_counts_as_one_that_begins_anew_each_time(
    tmp_path_factory: pytest.TempPathFactory, retail_card: Problem, asked: list[tuple[int, float]]
) -> None:
    """Requests that come again at once, within a day or much later: what is held in memory changes nothing."""
    found = []
    for restarts in (False, True):
        service, now = Service(tmp_path_factory.mktemp("reduced"), _at_once(retail_card)), START
        for number, wait in asked:
            now += wait * DAY
            service.ask(number, now)
            if restarts:
                service.restart()
            service.reducer.reduce(now)
        rows = [(row["id"], row["as_of"]) for row in service.reducer.rows().to_pylist()]
        found.append((rows, service.state.load().counters))
    assert found[0] == found[1]
