"""The embedded deployer: a service is a file that names the wanted version (D18).

Invariant: the file is replaced as a whole, so a reader sees one wanted version, old or new.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from serinus.core.errors import DataError
from serinus.wiring.journal import write_atomically


class FileDeployer:
    """`Deployer` on a folder: `<folder>/<problem>.json`."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder, self._now = folder, now

    def want(self, problem: str, version: int, storage_uri: str) -> None:
        """Writes the wanted version; the file stays as it is when that version is already wanted."""
        if self.wanted(problem) == version:
            return
        document = {
            "problem": problem,
            "wanted_version": version,
            "storage_uri": storage_uri,
            "since": self._now().isoformat(timespec="seconds"),
        }
        write_atomically(self._path(problem), json.dumps(document, indent=1) + "\n")

    def wanted(self, problem: str) -> int | None:
        """The version wanted now, or None. Raises `DataError` when the file is damaged."""
        path = self._path(problem)
        if not path.exists():
            return None
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["wanted_version"])
        except (ValueError, KeyError, TypeError) as fault:
            raise DataError(
                f"service file {path} is damaged", cause=str(fault), hint="delete it and deploy again"
            ) from fault

    def _path(self, problem: str) -> Path:
        return self._folder / f"{problem}.json"
