"""A steady, bounded load: a request every so often until it is told to stop, each answer remembered.

Invariant: nothing is retried, so a failed request is one that a caller without retries would have seen; at most `most`
requests are sent, and at most `CONCURRENCY` are under way.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

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
    """A plan under way in threads of its own; `replies` grows as answers come."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.replies = plan, list[Reply]()
        self._numbers, self._lock = iter(range(plan.most)), threading.Lock()
        self._enough, self._began = threading.Event(), 0.0
        self._threads = [threading.Thread(target=self._work, name=f"load-{n}") for n in range(CONCURRENCY)]

    def start(self) -> None:
        """Returns at once."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Reply]:
        """Sends no more, waits for what is under way; the replies in order of number."""
        self._enough.set()
        return self.join()

    def join(self) -> list[Reply]:
        """Waits until all are sent; the replies in order of number."""
        for thread in self._threads:
            thread.join()
        return sorted(self.replies, key=lambda one: one.number)

    def wait_for(self, what: str, seen: Callable[[Reply], bool], seconds: float, *, since: int | None = None) -> Reply:
        """The first reply of which `seen` is true, from now on or after `since` replies.

        Raises `AssertionError` when none came in time.
        """
        deadline = time.monotonic() + seconds
        position = len(self.replies) if since is None else since
        while time.monotonic() < deadline:
            ended = not any(one.is_alive() for one in self._threads)
            fresh = self.replies[position:]
            position += len(fresh)
            if (found := next(filter(seen, fresh), None)) is not None:
                return found
            assert not ended, f"{what}: the load of {self._plan.most} requests has ended before"
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {seconds:.0f} s; last: {self.replies[-3:]}")

    def _work(self) -> None:
        connection = HTTPConnection(self._plan.endpoint.removeprefix("http://"), timeout=TIMEOUT_SECONDS)
        while (number := self._next()) is not None:
            due = self._began + number / self._plan.rate
            if self._enough.wait(max(0.0, due - time.monotonic())):
                break
            self.replies.append(_sent(connection, number, self._plan.ask(number)))
        connection.close()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)


def _sent(connection: HTTPConnection, number: int, asked: Ask) -> Reply:
    """A connection that broke is opened anew by the next request."""
    began, fault, prediction = time.monotonic(), "", dict[str, Any]()
    try:
        body = json.dumps({"instances": [asked.instance]})
        connection.request("POST", asked.path, body, {"content-type": "application/json", **asked.headers})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == HTTPStatus.OK:
            prediction = json.loads(text)["predictions"][0]
        else:
            fault = f"HTTP {answer.status}: {text[:200].decode(errors='replace')}"
    except (OSError, HTTPException) as broken:
        connection.close()
        fault = f"{type(broken).__name__}: {broken}"
    return Reply(number, began, time.monotonic(), fault, prediction)


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
