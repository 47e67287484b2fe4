"""MLflow's SQLite file names the places of artifacts as a whole; this names them anew after both were moved together.

Invariant: only what lies in the folder `artifacts` beside the database, where our runs write, is named anew, in one
transaction: a reader sees all old places or all new ones. Wherever else an experiment keeps its files is left alone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

FOLDER = "artifacts"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_OURS = """
SELECT DISTINCT artifact_location FROM experiments JOIN runs USING (experiment_id) JOIN tags USING (run_uuid)
WHERE tags.key = ?
"""


def root_of(database: Path) -> str:
    """The URI of the folder for artifacts beside a database."""
    return (database.parent / FOLDER).resolve().as_uri()


def follow(database: Path, run_tag: str) -> None:
    """Names the artifacts anew when the database was moved since; `run_tag` is one that every run of ours has.

    What is no database yet, or may only be read, is left as it is: MLflow tells what it makes of it.
    """
    if not database.is_file():
        return
    root = root_of(database)
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as db, db:
        for (place,) in db.execute(_OURS, (run_tag,)).fetchall():
            if place != root and _beside_a_database(place, database.parent.name):
                for table, column in _PLACES:
                    _rename(db, table, column, place, root)


def _beside_a_database(place: str, folder: str) -> bool:
    """Whether artifacts were put there for being beside a database in a folder of that name."""
    return place.startswith("file:") and place.endswith(f"/{quote(folder)}/{FOLDER}")


def _rename(db: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    query = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column} || '/', 1, ?) = ?"  # noqa: S608
    db.execute(query, (new, len(old) + 1, len(old) + 1, f"{old}/"))
