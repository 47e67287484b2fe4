"""A day's snapshot on top of the day before against one made at once: `python benchmarks/snapshots.py`.

Retail's features, in a folder of its own; both are Feast's, and equal byte for byte. Processor time, whatever else the
machine does.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from _bench import finish
from online_lookup import build

from serinus.features.snapshots import Earlier
from serinus.wiring.project import open_project

FIRST = datetime(2011, 10, 4, tzinfo=UTC)
DAYS = 3


def main() -> None:
    """Three days after the first one."""
    warnings.simplefilter("ignore")
    project = open_project({}, start=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as home:
        store, _ = build(project, project.problem("retail"), Path(home), FIRST)
        earlier, ours, peer = Earlier(FIRST, Path(home) / "first.db"), 0.0, 0.0
        store.write_snapshot(FIRST, earlier.path)
        for number in range(1, DAYS + 1):
            day = FIRST + timedelta(days=number)
            grown, whole = Path(home) / f"{number}.db", Path(home) / f"{number}-whole.db"
            ours += _cpu(lambda at=day, to=grown, by=earlier: store.write_snapshot(at, to, by))
            peer += _cpu(lambda at=day, to=whole: store.write_snapshot(at, to))
            assert _rows(grown) == _rows(whole)
            earlier = Earlier(day, grown)
    finish("snapshots", [("a day of retail", "cpu s", ours / DAYS, peer / DAYS)], {"rows": "equal byte for byte"})


def _cpu(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def _rows(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        tables = sorted(name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return [row for one in tables for row in db.execute(f'SELECT * FROM "{one}" ORDER BY 1, 2')]


if __name__ == "__main__":
    main()
