"""A steady, bounded load: a request every so often until it is told to stop, each answer remembered.

Invariant: nothing is retried, so a failed request is one that a caller without retries would have seen; at most `most`
requests are sent, and at most `CONCURRENCY` are under way.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

CONCURRENCY = 16
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Ask:
    """One POST of the V1 protocol."""

    path: str
    instance: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


# The request of a number.
Asking = Callable[[int], Ask]


@dataclass(frozen=True)
class Reply:
    """What became of a request: `fault` is empty when it was answered with 200. Times are monotonic seconds."""

    number: int
    began: float
    ended: float
    fault: str
    prediction: dict[str, Any]

    @property
    def revision(self) -> str:
        """Who answered; empty when nobody did."""
        return str(self.prediction.get("revision", ""))

    @property
    def flags(self) -> dict[str, Any]:
        """Of the answer."""
        found: dict[str, Any] = self.prediction.get("flags", {})
        return found


@dataclass(frozen=True)
class Plan:
    """`rate` requests a second, `most` in all."""

    endpoint: str
    ask: Asking
    rate: float
    most: int


class Load:
    """A plan under way in a thread of its own; `replies` grows as answers come."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.replies = plan, list[Reply]()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()), name="load")

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def stop(self) -> list[Reply]:
        """Sends no more, waits for what is under way; the replies in order of number."""
        self._enough.set()
        return self.join()

    def join(self) -> list[Reply]:
        """Waits until all are sent; the replies in order of number."""
        self._thread.join()
        return sorted(self.replies, key=lambda one: one.number)

    def wait_for(self, what: str, seen: Callable[[Reply], bool], seconds: float) -> Reply:
        """The first reply from now on of which `seen` is true. Raises `AssertionError` when none came in time."""
        deadline, position = time.monotonic() + seconds, len(self.replies)
        while time.monotonic() < deadline:
            fresh = self.replies[position:]
            position += len(fresh)
            if (found := next(filter(seen, fresh), None)) is not None:
                return found
            assert self._thread.is_alive(), f"{what}: the load of {self._plan.most} requests has ended before"
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {seconds:.0f} s; last: {self.replies[-3:]}")

    async def _send_all(self) -> None:
        limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
        gate = asyncio.Semaphore(CONCURRENCY)
        began = time.monotonic()
        client = httpx.AsyncClient(base_url=self._plan.endpoint, limits=limits, timeout=TIMEOUT_SECONDS)
        async with client, asyncio.TaskGroup() as group:
            for number in range(self._plan.most):
                await asyncio.sleep(max(0.0, began + number / self._plan.rate - time.monotonic()))
                await gate.acquire()
                if self._enough.is_set():
                    break
                group.create_task(self._send(client, number, gate))

    async def _send(self, client: httpx.AsyncClient, number: int, gate: asyncio.Semaphore) -> None:
        asked, began = self._plan.ask(number), time.monotonic()
        fault, prediction = "", dict[str, Any]()
        try:
            body = json.dumps({"instances": [asked.instance]})
            headers = {"content-type": "application/json", **asked.headers}
            answer = await client.post(asked.path, content=body, headers=headers)
            if answer.status_code == 200:
                prediction = answer.json()["predictions"][0]
            else:
                fault = f"HTTP {answer.status_code}: {answer.text[:200]}"
        except httpx.HTTPError as broken:
            fault = f"{type(broken).__name__}: {broken}"
        finally:
            gate.release()
        self.replies.append(Reply(number, began, time.monotonic(), fault, prediction))


@contextmanager
def loading(plan: Plan) -> Iterator[Load]:
    """Under way; stopped at the end."""
    load = Load(plan)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def send_all(plan: Plan) -> list[Reply]:
    """The replies to the whole plan."""
    load = Load(plan)
    load.start()
    return load.join()


def always(ask: Ask) -> Asking:
    """The same for every number."""
    return lambda _: ask


def failed(replies: list[Reply]) -> list[str]:
    """What each failed request was told."""
    return [f"{one.number}: {one.fault}" for one in replies if one.fault]
