"""Kills a writer of the parquet log at every disk operation: `event_log_kills.py FOLDER`; one JSON line a kill.

Each attempt is a fork of this process, which has imported everything and started no thread: killed by SIGKILL before or
after its n-th operation, or in the middle of writing a file's bytes. A second fork then reads what is left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/evidence"))
import pandas  # noqa: F401 - pyarrow imports it with its first array: once here, not in every fork
from memory_log import row_of

from serinus.core.events import ROW_TYPES, Event, Stream
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.files import Disk

MODES = ("before", "after", "half")
LATER = 1e12


class KillingDisk(Disk):
    """Counts operations and ends the process at one of them."""

    def __init__(self, at: int, mode: str) -> None:
        self.at, self.mode, self.count = at, mode, 0

    def step(self, run: Callable[[], None], half: Callable[[], None] | None = None) -> None:
        """An operation that may be the last; `half` is what is done of it by a kill in the middle."""
        if self.mode == "half" and half is None:
            run()
            return
        mine = self.count == self.at
        self.count += 1
        if mine and self.mode != "after":
            if half is not None and self.mode == "half":
                half()
            _die()
        run()
        if mine:
            _die()

    def write(self, path: Path, data: bytes) -> None:
        self.step(lambda: Disk.write(self, path, data), lambda: Disk.write(self, path, data[: len(data) // 2]))

    def sync(self, path: Path) -> None:
        self.step(lambda: Disk.sync(self, path))

    def rename(self, source: Path, target: Path) -> None:
        self.step(lambda: Disk.rename(self, source, target))

    def unlink(self, path: Path) -> None:
        self.step(lambda: Disk.unlink(self, path))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def batch(stream: Stream, number: int) -> list[Event]:
    """Three rows that follow from the number."""
    return [row_of(stream, f"{number}-{i}ü") for i in range(3)]


def work(folder: Path, stream: Stream, acknowledged: int, at: int, mode: str) -> None:
    """Appends, compacts, appends, compacts the compacted; says each append that returned."""
    log = ParquetEventLog(folder, writer="w", disk=KillingDisk(at, mode))
    for number in range(6):
        log.append(stream, batch(stream, number))
        os.write(acknowledged, f"{number}\n".encode())
        if number in (2, 4):
            log.compact(stream, log.segments(stream))
    log.compact(stream, log.segments(stream)[:2])


def verify(folder: Path, stream: Stream, acknowledged: list[int]) -> dict[str, object]:
    """Raises AssertionError unless everything acknowledged is there, once, and the log goes on."""
    log = ParquetEventLog(folder, now=lambda: LATER)
    before = _rows(log, stream)
    expected = {row.id: row for number in range(6) for row in batch(stream, number)}
    for number in acknowledged:
        for row in batch(stream, number):
            assert before.pop(row.id) == row, row
    extra = {identifier.split("-")[0] for identifier in before}
    assert extra <= {str(len(acknowledged))}, extra
    assert len(before) in (0, 3), before
    assert all(expected[identifier] == row for identifier, row in before.items())
    left = len(list((folder / stream.value).glob(".*")))
    log.tidy(stream)
    assert log.damage().torn_files == left
    log.append(stream, batch(stream, 9))
    log.compact(stream, log.segments(stream))
    after = _rows(ParquetEventLog(folder), stream)
    assert {row.id for row in batch(stream, 9)} <= set(after)
    assert len(after) == 3 * len(acknowledged) + len(before) + 3
    assert len(list((folder / stream.value).iterdir())) == 1
    return {"stream": stream.value, "acknowledged": len(acknowledged), "torn": left}


def _rows(log: ParquetEventLog, stream: Stream) -> dict[str, Event]:
    found: dict[str, Event] = {}
    for segment in log.segments(stream):
        for row in log.read(segment).to_pylist():
            assert row["id"] not in found, f"{row['id']} is listed twice"
            values = {name: tuple(one) if isinstance(one, list) else one for name, one in row.items()}
            found[row["id"]] = ROW_TYPES[stream](**values)
    return found


def tell(found: dict[str, object]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def forked(run: Callable[[], None]) -> int:
    """Runs in a fork of this process; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException:  # noqa: BLE001 - the edge of a process
            traceback.print_exc()
        os._exit(code)
    return os.waitpid(child, 0)[1]


def main(root: Path) -> None:
    """All modes, all operations, until an attempt gets through; the streams take turns."""
    for mode in MODES:
        for at in range(1_000):
            stream = list(Stream)[at % len(Stream)]
            folder = root / f"{mode}-{at}"
            folder.mkdir()
            notes = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            status = forked(lambda f=folder, s=stream, n=notes, a=at, m=mode: work(f, s, n, a, m))
            os.close(notes)
            killed = os.WIFSIGNALED(status)
            if not killed and os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit(f"{mode} {at}: the writer broke")
            numbers = [int(one) for one in (folder / "acknowledged").read_text().split()]
            if os.waitstatus_to_exitcode(forked(lambda f=folder, s=stream, n=numbers: tell(verify(f, s, n)))):
                raise SystemExit(f"{mode} {at}: what was left is wrong")
            if not killed:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
