"""The embedded deployer: a service is a file that names the wanted version (D18) and keeps the salt of its buckets.

Invariant: the file is replaced as a whole, so a reader sees one wanted version, old or new; the salt never changes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from serinus.core.errors import Conflict, DataError, NotFound, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import Service
from serinus.files import DISK, Disk

_SALT_BYTES = 8
SERVICE = TypeAdapter(Service)
FILE = "service.json"


def _new_salt(_: ServiceRef) -> str:
    return secrets.token_hex(_SALT_BYTES)


class FileDeployer:
    """`Deployer` on a folder: `<folder>/<namespace>/<name>/service.json`."""

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_salt: Callable[[ServiceRef], str] = _new_salt,
        disk: Disk = DISK,
    ) -> None:
        self._folder, self._now, self._new_salt, self._disk = folder, now, new_salt, disk

    def want(self, service: ServiceRef, model: ModelRef, storage_uri: str, template: str = "") -> None:
        """Writes the wanted version; the file stays as it is when that version is already wanted."""
        known, version = self.service(service), model.version
        if known is None:
            salt = self._new_salt(service)
            self._save(Service(service, model.name, version, storage_uri, salt, template, 0, version, storage_uri))
            return
        if known.problem != model.name:
            raise Conflict(
                f"service {service.shown} is one of {known.problem}, not of {model.name}",
                hint="a service keeps its problem; give this one another name",
            )
        if (known.version, known.storage_uri, known.template) != (version, storage_uri, template):
            self._save(replace(known, version=version, storage_uri=storage_uri, template=template, retry=0))

    def retry(self, service: ServiceRef) -> int:
        """See `Deployer`."""
        known = self.service(service)
        if known is None:
            raise NotFound(f"no service {service.shown}")
        self._save(replace(known, retry=known.retry + 1))
        return known.retry + 1

    def known(self) -> list[ServiceRef]:
        """See `Deployer`. A folder that no service can have made is none."""
        found = []
        for path in self._folder.glob(f"*/*/{FILE}"):
            with suppress(UsageError):
                found.append(ServiceRef(path.parent.parent.name, path.parent.name))
        return sorted(found)

    def service(self, service: ServiceRef) -> Service | None:
        """The service as it is wanted now, or None. Raises `DataError` when the file is damaged."""
        path = self._path(service)
        if not path.exists():
            return None
        try:
            return SERVICE.validate_python(
                {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "since"}
            )
        except (ValueError, AttributeError) as fault:
            raise DataError(
                f"service file {path} is damaged",
                cause=str(fault),
                hint="delete it and deploy again; the new salt then assigns every unit anew",
            ) from fault

    def _save(self, service: Service) -> None:
        since = self._now().isoformat(timespec="seconds")
        self._disk.replace(self._path(service.ref), written(service, since))

    def _path(self, service: ServiceRef) -> Path:
        return self._folder / service.namespace / service.name / FILE


def written(service: Service, since: str) -> str:
    """The text of a service file; `since` is for people."""
    return json.dumps({**SERVICE.dump_python(service, mode="json"), "since": since}, indent=1) + "\n"
