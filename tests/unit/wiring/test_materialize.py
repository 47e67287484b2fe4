"""What `materialize` tells of the store that it loads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from serinus.features.snapshots import fingerprint
from serinus.wiring.project import Project, open_project
from serinus.wiring.steps.release import materialize_as_of

DAY = datetime(2011, 10, 3)


def snapshot(project: Project, problem: str, tables: tuple[str, ...]) -> None:
    """That day's, as Feast leaves it: two rows a table."""
    repo = project.feature_repo
    mark = fingerprint([repo / "feature_store.yaml", project.declarations(problem)], [])
    path = project.home / "feast" / problem / "snapshots" / mark / f"{DAY:%Y-%m-%d}.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        for table in tables:
            db.execute(f'CREATE TABLE "{table}" (entity_key BLOB, feature_name TEXT)')
            db.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', [(b"1", "a"), (b"1", "b"), (b"2", "a")])
        db.commit()


@pytest.mark.parametrize(("problem", "word"), [("shop", "shop"), ("shop-two", "shop_two")])
def test_the_rows_of_every_view_are_told_whatever_feast_calls_the_problem(
    tmp_path: Path, problem: str, word: str
) -> None:
    (tmp_path / "serinus.toml").write_text("")
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / f"{word}.py").touch()
    (repo / "feature_store.yaml").write_text(f"online_store: {{type: sqlite, path: {tmp_path}/online.db}}\n")
    project = open_project({"SERINUS_PROJECT": str(tmp_path), "SERINUS_HOME": str(tmp_path / "home")})
    snapshot(project, problem, (f"{word}_users", f"{word}_things"))
    found = materialize_as_of(project, problem, DAY)
    assert found["views"] == [{"name": "things", "rows": 2}, {"name": "users", "rows": 2}]
