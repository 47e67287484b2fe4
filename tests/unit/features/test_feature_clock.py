"""The feature clock over files: each day made once and whole, loaded as a whole, never mixed with rebuilt features."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serinus.features.snapshots import Earlier, FeatureClock, MakeSnapshot, SqliteLoader, counts, fingerprint

NOON = datetime(2024, 1, 6, 12, tzinfo=UTC)
NEXT = NOON + timedelta(days=1)


class Maker:
    """Stands for Feast: writes the day into the file, and counts."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.days: list[str] = []
        self.earlier: list[tuple[str, str] | None] = []
        self.fault = fault

    def __call__(self, as_of: datetime, path: Path, earlier: Earlier | None) -> None:
        self.days.append(f"{as_of:%m-%d}")
        self.earlier.append(earlier and (f"{earlier.as_of:%m-%d %H:%M%z}", earlier.path.read_text()))
        path.write_text(f"{as_of:%m-%d}")
        if self.fault:
            raise self.fault


def _clock(folder: Path, make: MakeSnapshot, mark: str = "one") -> FeatureClock:
    return FeatureClock(folder / "snapshots", mark, make, SqliteLoader(folder / "online.db"))


def _files(folder: Path) -> list[str]:
    """All that lies below the snapshots, but for the lock."""
    below = folder / "snapshots"
    return sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.name != ".lock")


def test_a_day_is_made_once_whatever_the_hour_and_the_direction(tmp_path: Path) -> None:
    made = Maker()
    clock, store = _clock(tmp_path, made), tmp_path / "online.db"
    for as_of, day in ((NOON, "01-06"), (NOON.replace(hour=23), "01-06"), (NEXT, "01-07"), (NOON, "01-06")):
        assert clock.move_to(as_of).name == f"2024-{day}.db"
        assert store.read_text() == day
    assert made.days == ["01-06", "01-07"]
    assert _files(tmp_path) == ["one", "one/2024-01-06.db", "one/2024-01-07.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["online.db", "snapshots"]


def test_a_day_is_made_from_the_newest_one_before_it_and_never_from_a_later_one(tmp_path: Path) -> None:
    made = Maker()
    for mark, day in (("one", 6), ("one", 9), ("one", 8), ("one", 3), ("one", 31), ("two", 10)):
        _clock(tmp_path, made, mark).snapshot(NOON.replace(day=day))
    sixth, ninth = ("01-06 00:00+0000", "01-06"), ("01-09 00:00+0000", "01-09")
    assert made.earlier == [None, sixth, sixth, None, ninth, None]


def test_the_same_day_is_loaded_once(tmp_path: Path) -> None:
    clock = _clock(tmp_path, Maker())
    clock.move_to(NOON)
    (tmp_path / "online.db").write_text("left alone")
    clock.move_to(NOON.replace(hour=0))
    assert (tmp_path / "online.db").read_text() == "left alone"
    _clock(tmp_path, Maker()).move_to(NOON)  # another clock cannot know what is loaded
    assert (tmp_path / "online.db").read_text() == "01-06"


def test_whoever_writes_to_the_store_does_not_harm_the_snapshot(tmp_path: Path) -> None:
    clock = _clock(tmp_path, Maker())
    clock.move_to(NOON)
    (tmp_path / "online.db").write_text("pushed")
    clock.move_to(NEXT)
    clock.move_to(NOON)
    assert (tmp_path / "online.db").read_text() == "01-06"


def test_a_maker_that_fails_leaves_the_old_store_and_nothing_else(tmp_path: Path) -> None:
    made = Maker()
    clock = _clock(tmp_path, made)
    clock.move_to(NOON)
    made.fault = RuntimeError("no rows")
    with pytest.raises(RuntimeError, match="no rows"):
        clock.move_to(NEXT)
    assert (tmp_path / "online.db").read_text() == "01-06"
    assert _files(tmp_path) == ["one", "one/2024-01-06.db"]
    made.fault = None
    clock.move_to(NEXT)
    assert (tmp_path / "online.db").read_text() == "01-07"


def test_a_maker_that_is_killed_leaves_no_snapshot_and_the_next_one_clears_up(tmp_path: Path) -> None:
    code = f"""
import os
from datetime import datetime
from pathlib import Path
from serinus.features.snapshots import FeatureClock, SqliteLoader

def make(as_of, path, earlier):
    path.write_text("half")
    os._exit(9)

folder = Path({str(tmp_path / "snapshots")!r})
FeatureClock(folder, "one", make, SqliteLoader(Path("unused"))).move_to(datetime(2024, 1, 6))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 9
    assert any(".making-" in name for name in _files(tmp_path))
    _clock(tmp_path, Maker()).move_to(NOON)
    assert _files(tmp_path) == ["one", "one/2024-01-06.db"]


def test_a_load_that_fails_leaves_the_old_store_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _clock(tmp_path, Maker())
    clock.move_to(NOON)

    def full(_: Path, target: Path) -> None:
        target.write_text("ha")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            clock.move_to(NEXT)
    assert (tmp_path / "online.db").read_text() == "01-06"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["online.db", "snapshots"]
    clock.move_to(NEXT)
    assert (tmp_path / "online.db").read_text() == "01-07"


def test_clocks_that_need_the_same_day_at_once_make_it_once(tmp_path: Path) -> None:
    made, together = Maker(), threading.Barrier(4)

    def slowly(as_of: datetime, path: Path, earlier: Earlier | None) -> None:
        made(as_of, path, earlier)
        time.sleep(0.05)

    def move() -> None:
        together.wait()
        _clock(tmp_path, slowly).move_to(NOON)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert made.days == ["01-06"]
    assert (tmp_path / "online.db").read_text() == "01-06"


def test_rebuilt_features_never_meet_old_snapshots(tmp_path: Path) -> None:
    made = Maker()
    for mark in ("one", "two"):
        _clock(tmp_path, made, mark).move_to(NOON)
    assert made.days == ["01-06", "01-06"]
    assert _files(tmp_path) == ["two", "two/2024-01-06.db"]


def test_a_loaded_day_whose_snapshot_was_dropped_is_made_again(tmp_path: Path) -> None:
    """Its caller reads the file that is returned."""
    made = Maker()
    first = _clock(tmp_path, made)
    first.move_to(NOON)
    _clock(tmp_path, made, "two").move_to(NOON)
    assert first.move_to(NOON).exists()


def test_the_fingerprint_is_that_of_definitions_and_sources(tmp_path: Path) -> None:
    text, rows, more = (tmp_path / name for name in ("views.py", "a.parquet", "b.parquet"))
    for path in (text, rows, more):
        path.write_text("1")
    os.utime(rows, ns=(1, 1))

    def mark() -> str:
        return fingerprint([text], [rows, more])

    seen = {mark()}
    assert fingerprint([text], [more, rows]) in seen
    text.write_text("2")  # same size: the content counts
    seen.add(mark())
    os.utime(rows, ns=(1, 2))
    seen.add(mark())
    rows.write_text("12")
    os.utime(rows, ns=(1, 2))
    seen.add(mark())
    seen.add(fingerprint([text], [rows]))
    more.rename(tmp_path / "c.parquet")
    seen.add(fingerprint([text], [rows, tmp_path / "c.parquet"]))
    assert len(seen) == 6
    assert all(len(one) == 16 and one.isalnum() for one in seen)


def test_rows_are_counted_by_view_and_not_by_feature(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    db = sqlite3.connect(path)
    for table in ("toy_users", "toy_things", "other"):
        db.execute(f'CREATE TABLE "{table}" (entity_key BLOB, feature_name TEXT)')
    db.executemany("INSERT INTO toy_users VALUES (?, ?)", [(b"1", "a"), (b"1", "b"), (b"2", "a")])
    db.commit()
    db.close()
    assert counts(path, "toy") == {"things": 0, "users": 2}


def test_a_day_that_has_a_snapshot_is_loaded_without_feast_and_pandas(tmp_path: Path) -> None:
    _clock(tmp_path, Maker()).snapshot(NOON)
    code = f"""
import sys
from datetime import datetime
from pathlib import Path
from serinus.features.snapshots import FeatureClock, SqliteLoader

def make(as_of, path, earlier):
    raise AssertionError("there is one")

folder = Path({str(tmp_path)!r})
FeatureClock(folder / "snapshots", "one", make, SqliteLoader(folder / "online.db")).move_to(datetime(2024, 1, 6, 23))
import serinus.features.redis_store
print([name for name in ("feast", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "online.db").read_text() == "01-06"
