"""Plays a schedule: requests in event-time order over keep-alive connections, outcomes as late as they would be.

Invariant: at most `concurrency` requests are under way; the feature clock moves only when none is, and so does whoever
is called at a pause; an outcome is sent once its time has come, never before, and only when what it is of was answered:
nobody was shown anything by a request that failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby, takewhile
from pathlib import Path
from typing import Protocol

from serinus.client import Client, Refused, RoutedClient, RouteFile, Unreachable
from serinus.core.errors import DataError, Unavailable
from serinus.replay.progress import Progress, Sent
from serinus.replay.schedule import Day, Happened, Request, Schedule

OUTCOMES_A_BATCH = 500
# After this many requests in a row without an answer nobody is there; after this many that were refused it is not one
# arm that is broken, which the rollout is to find out, but all of them.
MOST_UNREACHABLE, MOST_REFUSED = 20, 100


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
        self._local, self._since_pause = threading.local(), 0
        self._unreachable, self._refused = _Streak(), _Streak()
        self._answers = _Answers(schedule, progress.sent())
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
        waiting = _Waiting(self._schedule.outcomes(number), self._progress.outcomes(number), self._answers)
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
        except Refused as refused:
            fault = f"HTTP {refused.status}: {refused.body[:200]}"
        except Unreachable as unreachable:
            fault, answered = str(unreachable), False
        self._unreachable.goes_on("" if answered else fault)
        self._refused.goes_on(fault if answered else "")
        self._answers.add(request.request_id, request.unit, good=not fault)
        sent = Sent(number=request.number, ms=(time.perf_counter() - began) * 1e3, fault=fault, answered=answered)
        self._progress.finished(sent)
        self._on_sent(sent)

    def _check(self) -> None:
        where = self._target.endpoint or f"the service {self._target.service}"
        if self._unreachable.length >= MOST_UNREACHABLE:
            cause = self._unreachable.first
            raise Unavailable(f"{where} has stopped answering", cause=cause, hint="start it, and replay again")
        if self._refused.length >= MOST_REFUSED:
            raise DataError(f"{where} refused {self._refused.length} requests in a row", cause=self._refused.first)

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
            due = [one.document for one in batch if self._answers.good(one)]
            try:
                # `as_of` is when each becomes known: the collector of a replay takes it for the time of arrival.
                if due:
                    collector.send_outcomes(due)
            except Refused as refused:
                raise Unavailable("the collector refused outcomes", cause=refused.body[:1000]) from refused
            except Unreachable as fault:
                raise Unavailable("the collector does not answer", cause=str(fault)) from fault
            self._progress.took(pass_number, waiting.drop(len(batch)))


def _settle(under_way: list[Future[None]]) -> None:
    for future in under_way:
        future.result()
    under_way.clear()


class _Streak:
    """So many faults of a kind in a row, and the first of them. Told of from several threads."""

    def __init__(self) -> None:
        self.length, self.first, self._lock = 0, "", threading.Lock()

    def goes_on(self, fault: str) -> None:
        """Or ends, without one."""
        with self._lock:
            self.first = self.first if fault and self.length else fault
            self.length = self.length + 1 if fault else 0


class _Answers:
    """Which requests and units are known to be answered, and which to have failed. `before`: in an earlier try."""

    def __init__(self, schedule: Schedule, before: Sequence[Sent]) -> None:
        self._requests: dict[str, bool] = {}
        self._units: dict[str, bool] = {}
        if before:
            known = {one.number: not one.fault for one in before if one.answered}
            for request in (one for day in schedule.days() for one in day.requests if one.number in known):
                self.add(request.request_id, request.unit, good=known[request.number])

    def add(self, request_id: str, unit: str, *, good: bool) -> None:
        """A unit was answered when one of its requests was."""
        self._requests[request_id] = good
        self._units[unit] = good or self._units.get(unit, False)

    def good(self, one: Happened) -> bool | None:
        """Whether what this outcome is of was answered; None while that is not known."""
        request_id = one.document.get("request_id")
        return self._requests.get(request_id) if request_id else self._units.get(one.document["unit"])


class _Waiting:
    """Outcomes of a pass that were not sent yet, in order of time.

    The first `taken` were passed over in an earlier try; those whose request was not even answered then come again.
    """

    def __init__(self, happened: list[Happened], taken: int, answers: _Answers) -> None:
        again = [one for one in happened[:taken] if answers.good(one) is None]
        self._happened, self._again, self._next = again + happened[taken:], len(again), 0
        self._answers = answers

    def due(self, until: datetime | None, *, least: int) -> list[Happened]:
        """The next batch, or nothing when fewer than `least` are due: nothing after one whose request is under way."""
        batch = self._happened[self._next : self._next + OUTCOMES_A_BATCH]
        if until is not None:
            batch = list(takewhile(lambda one: one.at <= until and self._answers.good(one) is not None, batch))
        return batch if len(batch) >= least else []

    def drop(self, count: int) -> int:
        """Moves on; how many of them had not been passed over before."""
        again = max(0, min(count, self._again - self._next))
        self._next += count
        return count - again
