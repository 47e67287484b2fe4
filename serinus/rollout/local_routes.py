"""The route of a service as a file that calling applications read (`serinus.client.RouteFile`): the splitter without a
gateway.

Invariant: the file is replaced as a whole, and its number rises with every change; the same route changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serinus.core.assignment import BUCKETS
from serinus.core.errors import DataError, NotFound
from serinus.core.rollout.ports import InForce
from serinus.core.rollout.route import Route
from serinus.core.words import Arm
from serinus.files import DISK, Disk


class LocalSplitter:
    """`Splitter` on one file. `endpoint_of` gives the address of a revision."""

    def __init__(
        self,
        path: Path,
        salt: str,
        endpoint_of: Callable[[str], str],
        now: Callable[[], float],
        *,
        disk: Disk = DISK,
    ) -> None:
        self._path, self._salt, self._endpoint_of, self._now, self._disk = path, salt, endpoint_of, now, disk

    def apply(self, route: Route) -> InForce:
        """See `Splitter`. A file that was replaced is read by the next request."""
        before = self._read()
        document = self._document(route, before)
        number = int(before.pop("number", 0)) if before else 0
        if document != before:
            self._disk.replace(self._path, json.dumps({"number": number + 1, **document}, indent=1) + "\n")
        return InForce(self._now())

    def current(self) -> Mapping[str, Any] | None:
        """The table as it is, or None before the first."""
        return self._read()

    def _document(self, route: Route, before: dict[str, Any] | None) -> dict[str, Any]:
        names = {Arm.STABLE: route.stable} | ({Arm.CANARY: route.canary} if route.canary else {})
        arms = {arm.value: {"revision": name, "endpoint": self._endpoint(name, before)} for arm, name in names.items()}
        return {
            "service": route.service.name,
            "salt": self._salt,
            "rollout": route.rollout,
            "stamp": f"{route.rollout}.{route.number}",
            "arms": arms,
            "canary_buckets": [one for one in range(BUCKETS) if route.canary and route.assigned(one) is Arm.CANARY],
            "mirrored_buckets": [one for one in range(BUCKETS) if route.canary and route.mirrored(one)],
        }

    def _endpoint(self, revision: str, before: dict[str, Any] | None) -> str:
        """One that is gone keeps the address that the table has, as after a promotion that leaves it no bucket."""
        try:
            return self._endpoint_of(revision)
        except NotFound:
            known = {one["revision"]: str(one["endpoint"]) for one in (before or {}).get("arms", {}).values()}
            if revision not in known:
                raise
            return known[revision]

    def _read(self) -> dict[str, Any] | None:
        if not self._path.exists():
            return None
        try:
            found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError as fault:
            hint = "put it back from a copy, or delete it: the next tick writes it anew"
            raise DataError(f"{self._path} cannot be read", cause=str(fault), hint=hint) from fault
        return found
