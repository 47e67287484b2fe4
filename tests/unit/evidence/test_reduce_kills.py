"""A reduction with compaction that is killed, or loses power, at each of its operations on files: the next one ends the
same."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest
from memory_log import DAY, START, exposure, outcome, scores

from serinus.core.card import Problem
from serinus.core.events import Stream
from serinus.evidence.compaction import compaction
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder
from serinus.files import DISK, Disk
from tests.disks import Killed, KillingDisk, PowerDisk


class Service:
    """A log and its reduction, made anew as a new process would."""

    def __init__(self, folder: Path, card: Problem) -> None:
        self._folder, self._plan = folder, KpiPlan.of(card)
        log = ParquetEventLog(folder / "log")
        for number in range(4):
            name = f"r{number}"
            log.append(Stream.SCORES, [scores(name)])
            log.append(Stream.EXPOSURES, [exposure(name, at=START + number * DAY, sequence=number)])
            log.append(Stream.OUTCOMES, [outcome(f"o{number}", name, "b", as_of=START + number * DAY)])
        # What comes next merges its KPI rows with these.
        self.reducer().reduce(START)

    def at(self, folder: Path) -> Service:
        """The same in another folder, with what is there."""
        moved = copy(self)
        moved._folder = folder
        return moved

    def reducer(self, disk: Disk = DISK) -> KpiReducer:
        """Of a new process."""
        log = ParquetEventLog(self._folder / "log", disk=disk)
        return KpiReducer(log, StateFolder(self._folder / "reduced", disk=disk), self._plan, compaction(log, 3))

    def reduce(self) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """What is found at last: KPI rows without the time at which they were closed, and counters."""
        counters = self.reducer().reduce(START + 40 * DAY)
        rows = self.reducer().rows().drop_columns(["closed_at"]).to_pylist()
        return sorted(rows, key=lambda row: (row["id"], row["window"])), counters.model_dump()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_operation_the_next_run_ends_the_same(tmp_path: Path, retail_card: Problem, after: bool) -> None:
    expected = Service(tmp_path / "whole", retail_card).reduce()
    assert len(expected[0]) == 12  # four requests in three windows
    assert expected[1]["duplicates"] == 0
    number = 0
    while True:
        service = Service(tmp_path / f"{number}", retail_card)
        try:
            service.reducer(KillingDisk(number, after)).reduce(START + 2 * DAY)
            survived = True
        except Killed:
            survived = False
        assert service.reduce() == expected, number
        assert service.reduce() == expected, number
        if survived:
            break
        number += 1
    assert number > 15


def test_power_lost_after_any_operation_the_next_run_ends_the_same(tmp_path: Path, retail_card: Problem) -> None:
    expected = Service(tmp_path / "whole", retail_card).reduce()
    service = Service(tmp_path / "home", retail_card)
    disk = PowerDisk(tmp_path / "home")
    service.reducer(disk).reduce(START + 2 * DAY)
    moments = disk.moments()
    assert len(moments) > 15
    for number, left in enumerate(moments):
        assert service.at(left.put(tmp_path / f"{number}")).reduce() == expected, number
    disk.close()
