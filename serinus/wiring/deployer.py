"""The embedded deployer: a service is a file that names the wanted version (D18) and keeps the salt of its buckets.

Invariant: the file is replaced as a whole, so a reader sees one wanted version, old or new; the salt never changes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from serinus.core.errors import DataError, NotFound
from serinus.core.ports import Service
from serinus.files import DISK, Disk

_SALT_BYTES = 8
_SERVICE = TypeAdapter(Service)


def _new_salt() -> str:
    return secrets.token_hex(_SALT_BYTES)


class FileDeployer:
    """`Deployer` on a folder: `<folder>/<problem>.json`."""

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_salt: Callable[[], str] = _new_salt,
        disk: Disk = DISK,
    ) -> None:
        self._folder, self._now, self._new_salt, self._disk = folder, now, new_salt, disk

    def want(self, problem: str, version: int, storage_uri: str, template: str = "") -> None:
        """Writes the wanted version; the file stays as it is when that version is already wanted."""
        known = self.service(problem)
        if known is None:
            self._save(Service(problem, version, storage_uri, self._new_salt(), template, 0, version, storage_uri))
        elif (known.version, known.storage_uri, known.template) != (version, storage_uri, template):
            self._save(replace(known, version=version, storage_uri=storage_uri, template=template, retry=0))

    def retry(self, problem: str) -> int:
        """See `Deployer`."""
        known = self.service(problem)
        if known is None:
            raise NotFound(f"nothing is deployed for {problem} yet")
        self._save(replace(known, retry=known.retry + 1))
        return known.retry + 1

    def service(self, problem: str) -> Service | None:
        """The service as it is wanted now, or None. Raises `DataError` when the file is damaged."""
        path = self._path(problem)
        if not path.exists():
            return None
        try:
            return _SERVICE.validate_python(
                {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "since"}
            )
        except (ValueError, AttributeError) as fault:
            raise DataError(
                f"service file {path} is damaged",
                cause=str(fault),
                hint="delete it and deploy again; the new salt then assigns every unit anew",
            ) from fault

    def _save(self, service: Service) -> None:
        document = {**asdict(service), "since": self._now().isoformat(timespec="seconds")}
        self._disk.replace(self._path(service.problem), json.dumps(document, indent=1) + "\n")

    def _path(self, problem: str) -> Path:
        return self._folder / f"{problem}.json"
