"""Plays a schedule: requests in event-time order over keep-alive connections, outcomes as late as they would be.

Invariant: at most `concurrency` requests are under way; the feature clock moves only when none is, and so does whoever
is called at a pause; an outcome is sent once its time has come, never before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol

from serinus.client import Client, Refused, RoutedClient, RouteFile, Unreachable
from serinus.core.errors import Unavailable
from serinus.replay.progress import Progress, Sent
from serinus.replay.schedule import Day, Happened, Request, Schedule

OUTCOMES_A_BATCH = 500
# After this many requests in a row without an answer nobody is there.
MOST_UNREACHABLE = 20


class Clock(Protocol):
    """Moves the features to a moment (D12)."""

    def __call__(self, as_of: datetime) -> object: ...


class Pause(Protocol):
    """Called with the event time when nothing is under way; True ends the replay."""

    def __call__(self, as_of: datetime) -> bool: ...


def go_on(as_of: datetime) -> bool:  # noqa: ARG001 - a Pause
    """The pause that does nothing."""
    return False


@dataclass(frozen=True)
class Pauses:
    """A pause after every `requests` requests and at the end of each pass."""

    requests: int = 0
    call: Pause = go_on


@dataclass(frozen=True)
class Target:
    """Where to: predictor (or gateway) and collector; `rate` in requests a second, 0 for as fast as it goes.

    With a route table the requests go to the arms that it names, and the endpoint is not used.
    """

    endpoint: str
    collector: str
    service: str
    salt: str
    concurrency: int = 4
    rate: float = 0.0
    routes: Path | None = None


class _Enough(Exception):
    """A pause said so."""


class Player:
    """One replay. `on_sent` is told of every finished request."""

    def __init__(
        self,
        schedule: Schedule,
        target: Target,
        progress: Progress,
        move_clock: Clock,
        on_sent: Callable[[Sent], None],
        pauses: Pauses | None = None,
    ) -> None:
        self._schedule, self._target, self._progress = schedule, target, progress
        self._move_clock, self._on_sent, self._pauses = move_clock, on_sent, pauses or Pauses()
        self._local, self._unreachable, self._since_pause = threading.local(), 0, 0
        self._routes = RouteFile(target.routes) if target.routes else None
        self._clients: list[Client | RoutedClient] = []

    def play(self) -> None:
        """Sends everything that was not sent before, or until a pause ends it.

        Raises `Unavailable` when nobody answers.
        """
        collector = Client(self._target.collector)
        with ThreadPoolExecutor(self._target.concurrency, thread_name_prefix="replay") as pool:
            try:
                for number, days in groupby(self._schedule.days(), lambda day: day.pass_number):
                    self._play_pass(pool, collector, number, days)
            except _Enough:
                return
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                for client in [*self._clients, collector]:
                    client.close()

    def _play_pass(self, pool: ThreadPoolExecutor, collector: Client, number: int, days: Iterable[Day]) -> None:
        waiting = _Waiting(self._schedule.outcomes(number)[self._progress.outcomes(number) :])
        report = partial(self._report, collector, number, waiting)
        for day in days:
            self._play_day(pool, day, report)
        report(None)
        self._pause(self._schedule.end)

    def _play_day(self, pool: ThreadPoolExecutor, day: Day, report: Callable[..., None]) -> None:
        todo = [one for one in day.requests if not self._progress.done(one.number)]
        if not todo:
            return
        self._move_clock(todo[0].as_of)
        gate = threading.Semaphore(self._target.concurrency)
        under_way: list[Future[None]] = []
        for request in todo:
            gate.acquire()
            future = pool.submit(self._send, request)
            future.add_done_callback(lambda _: gate.release())
            under_way.append(future)
            report(request.as_of)
            self._check()
            self._since_pause += 1
            if self._since_pause == self._pauses.requests:
                _settle(under_way)
                report(request.as_of, least=1)
                self._pause(request.as_of)
            if self._target.rate:
                time.sleep(1 / self._target.rate)
        _settle(under_way)
        self._check()

    def _pause(self, as_of: datetime) -> None:
        """Nothing is under way: not even a copy for the shadow."""
        for client in self._clients:
            if isinstance(client, RoutedClient):
                client.settle()
        self._since_pause = 0
        if self._pauses.call(as_of):
            raise _Enough

    def _connect(self) -> Client | RoutedClient:
        if self._routes is not None:
            return RoutedClient(self._routes)
        return Client(self._target.endpoint, service=self._target.service, salt=self._target.salt)

    def _send(self, request: Request) -> None:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
            self._clients.append(client)
        began, fault, answered = time.perf_counter(), "", True
        try:
            client.predict(
                request.entity,
                request.items,
                unit=request.unit,
                context=request.context,
                request_id=request.request_id,
                as_of=request.as_of.isoformat(),
            )
            self._unreachable = 0
        except Refused as refused:
            fault = f"HTTP {refused.status}: {refused.body[:200]}"
        except Unreachable as unreachable:
            self._unreachable += 1
            fault, answered = str(unreachable), False
        sent = Sent(number=request.number, ms=(time.perf_counter() - began) * 1e3, fault=fault, answered=answered)
        self._progress.finished(sent)
        self._on_sent(sent)

    def _check(self) -> None:
        if self._unreachable >= MOST_UNREACHABLE:
            where = self._target.endpoint or f"the service {self._target.service}"
            raise Unavailable(f"{where} has stopped answering", hint="start it, and replay again")

    def _report(
        self,
        collector: Client,
        pass_number: int,
        waiting: _Waiting,
        until: datetime | None,
        *,
        least: int = OUTCOMES_A_BATCH // 5,
    ) -> None:
        """Sends the outcomes that are due, at least `least` in a batch; all of the pass when `until` is None."""
        while batch := waiting.due(until, least=1 if until is None else least):
            try:
                # `as_of` is when each becomes known: the collector of a replay takes it for the time of arrival.
                collector.send_outcomes([one.document for one in batch])
            except Refused as refused:
                raise Unavailable("the collector refused outcomes", cause=refused.body[:1000]) from refused
            except Unreachable as fault:
                raise Unavailable("the collector does not answer", cause=str(fault)) from fault
            waiting.drop(len(batch))
            self._progress.took(pass_number, len(batch))


def _settle(under_way: list[Future[None]]) -> None:
    for future in under_way:
        future.result()
    under_way.clear()


class _Waiting:
    """Outcomes of a pass that were not sent yet, in order of time."""

    def __init__(self, happened: list[Happened]) -> None:
        self._happened, self._next = happened, 0

    def due(self, until: datetime | None, *, least: int) -> list[Happened]:
        """The next batch, or nothing when fewer than `least` are due."""
        batch = self._happened[self._next : self._next + OUTCOMES_A_BATCH]
        if until is not None:
            batch = [one for one in batch if one.at <= until]
        return batch if len(batch) >= least else []

    def drop(self, count: int) -> None:
        """Moves on."""
        self._next += count
