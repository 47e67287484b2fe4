"""Sends each request to its arm by the service's route table, where no gateway does it. Standard library only.

Invariant: a unit goes where its bucket goes; a mirrored answer is never returned; a request whose arm is away is
answered by the stable one, and evidence does not judge it.
"""

from __future__ import annotations

import json
import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serinus.client.bucket import bucket_of
from serinus.client.client import Client, Id, Refused, Unreachable

STABLE, CANARY = "stable", "canary"
MOST_MIRRORED = 256


@dataclass(frozen=True)
class RouteTable:
    """Addresses by arm, and the buckets of the canary. `mirrored` ones are sent to both arms, and answered by stable.

    `number` rises with every change of the service's route; `stamp` names the route itself, for who logs the requests.
    """

    service: str
    salt: str
    number: int
    endpoints: Mapping[str, str]
    canary: frozenset[int]
    mirrored: frozenset[int]
    stamp: str = ""

    @classmethod
    def parse(cls, text: str) -> RouteTable:
        """Raises `ValueError` for a document that is no route table."""
        try:
            raw = json.loads(text)
            endpoints = {str(arm): str(one["endpoint"]) for arm, one in raw["arms"].items()}
            canary, mirrored = (frozenset(map(int, raw[name])) for name in ("canary_buckets", "mirrored_buckets"))
            stamp, number = str(raw.get("stamp", "")), int(raw["number"])
            found = cls(raw["service"], raw["salt"], number, endpoints, canary, mirrored, stamp)
        except (KeyError, TypeError, AttributeError) as fault:
            raise ValueError(f"not a route table: {fault!r}") from fault
        if STABLE not in found.endpoints:
            raise ValueError("a route table needs a stable arm")
        return found

    def arm(self, bucket: int, forced: str = "") -> str:
        """The arm of a bucket; a forced one where it exists."""
        wanted = forced or (CANARY if bucket in self.canary else STABLE)
        return wanted if wanted in self.endpoints else STABLE


class RouteFile:
    """A route table on disk, read anew when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._table: RouteTable | None = None

    def table(self) -> RouteTable:
        """As it is now. Raises `ValueError` when it is damaged, `OSError` when there is none."""
        with self._lock:
            found = self._path.stat()
            if self._table is None or (found.st_mtime_ns, found.st_ino) != self._seen:
                self._table = RouteTable.parse(self._path.read_text(encoding="utf-8"))
                self._seen = (found.st_mtime_ns, found.st_ino)
            return self._table


class RoutedClient:
    """`Client.predict` over a route table; use one a thread. `connect` makes the client of an address."""

    def __init__(self, routes: RouteFile, connect: Callable[[str, RouteTable], Client] | None = None) -> None:
        self._routes, self._connect = routes, connect or _connect
        self._clients: dict[str, Client] = {}
        self._mirror = _Mirror(self._send_copy)
        self._copies: dict[str, Client] = {}

    def predict(
        self,
        entity: Id,
        items: Sequence[Id] = (),
        *,
        unit: Id = "",
        arm: str = "",
        **rest: Any,  # noqa: ANN401 - passed on
    ) -> dict[str, Any]:
        """See `Client.predict`. The answer of the unit's arm; the stable one's where that arm cannot be reached.

        All tries and the copy have one request id and the stamp of one route, so whatever an arm logged of them belongs
        together.
        """
        table = self._routes.table()
        bucket = bucket_of(table.salt, entity if unit == "" else unit)
        chosen = table.arm(bucket, arm)
        asked = {"unit": unit, "arm": arm, **rest, "request_id": rest.get("request_id") or uuid.uuid4().hex}
        asked |= {"route": table.stamp} if table.stamp else {}
        try:
            answer = self._client(table, chosen).predict(entity, items, **asked)
        except Unreachable:
            if chosen == STABLE:
                raise
            answer = self._client(table, STABLE).predict(entity, items, **asked)
        if bucket in table.mirrored and CANARY in table.endpoints and not arm:
            self._mirror.put((table, entity, items, asked))
        return answer

    def settle(self) -> None:
        """Waits until every mirrored request was sent."""
        self._mirror.settle()

    def close(self) -> None:
        """Sends what is still to be mirrored and closes all connections."""
        self._mirror.close()
        for client in (*self._clients.values(), *self._copies.values()):
            client.close()

    def _client(self, table: RouteTable, arm: str) -> Client:
        address = table.endpoints[arm]
        if address not in self._clients:
            self._clients[address] = self._connect(address, table)
        return self._clients[address]

    def _send_copy(self, job: _Job) -> None:
        table, entity, items, asked = job
        address = table.endpoints[CANARY]
        if address not in self._copies:
            self._copies[address] = self._connect(address, table)
        # Away, refusing, or answering what is no answer: the caller was answered, and the next copy must go out.
        with suppress(Refused, Unreachable, ValueError, LookupError, TypeError):
            self._copies[address].predict(entity, items, **asked)


_Job = tuple[RouteTable, Id, Sequence[Id], Mapping[str, Any]]


class _Mirror:
    """Sends copies behind the answers; what does not fit is not mirrored."""

    def __init__(self, send: Callable[[_Job], None]) -> None:
        self._send, self._jobs = send, queue.Queue[_Job | None](MOST_MIRRORED)
        self._thread: threading.Thread | None = None

    def put(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return

    def settle(self) -> None:
        self._jobs.join()

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                if job is None:
                    return
                self._send(job)
            finally:
                self._jobs.task_done()


def _connect(endpoint: str, table: RouteTable) -> Client:
    return Client(endpoint, service=table.service, salt=table.salt)
