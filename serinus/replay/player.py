"""Plays a schedule: requests in event-time order over keep-alive connections, outcomes as late as they would be.

Invariant: at most `concurrency` requests are under way; the feature clock moves only when none is; an outcome is sent
once its time has come, never before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from serinus.client import Client, Refused, Unreachable
from serinus.core.errors import Unavailable
from serinus.replay.progress import Progress, Sent
from serinus.replay.schedule import Day, Happened, Request, Schedule

OUTCOMES_A_BATCH = 500
# After this many requests in a row without an answer nobody is there.
MOST_UNREACHABLE = 20


class Clock(Protocol):
    """Moves the features to a moment (D12)."""

    def __call__(self, as_of: datetime) -> object: ...


@dataclass(frozen=True)
class Target:
    """Where to: predictor (or gateway) and collector; `rate` in requests a second, 0 for as fast as it goes."""

    endpoint: str
    collector: str
    service: str
    salt: str
    concurrency: int = 4
    rate: float = 0.0


class Player:
    """One replay. `on_sent` is told of every finished request."""

    def __init__(
        self, schedule: Schedule, target: Target, progress: Progress, move_clock: Clock, on_sent: Callable[[Sent], None]
    ) -> None:
        self._schedule, self._target, self._progress = schedule, target, progress
        self._move_clock, self._on_sent = move_clock, on_sent
        self._local, self._unreachable = threading.local(), 0
        self._clients: list[Client] = []

    def play(self) -> None:
        """Sends everything that was not sent before. Raises `Unavailable` when nobody answers."""
        collector = Client(self._target.collector)
        current, waiting = 0, _Waiting([])
        with ThreadPoolExecutor(self._target.concurrency, thread_name_prefix="replay") as pool:
            try:
                for day in self._schedule.days():
                    if day.pass_number != current:
                        self._report(collector, current, waiting, None)
                        current = day.pass_number
                        waiting = _Waiting(self._schedule.outcomes(current)[self._progress.outcomes(current) :])
                    self._play_day(pool, day, partial(self._report, collector, current, waiting))
                self._report(collector, current, waiting, None)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                for client in [*self._clients, collector]:
                    client.close()

    def _play_day(self, pool: ThreadPoolExecutor, day: Day, report: Callable[[datetime], None]) -> None:
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
            if self._target.rate:
                time.sleep(1 / self._target.rate)
        for future in under_way:
            future.result()
        self._check()

    def _send(self, request: Request) -> None:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = Client(
                self._target.endpoint, service=self._target.service, salt=self._target.salt
            )
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
            raise Unavailable(f"{self._target.endpoint} has stopped answering", hint="start it, and resume the replay")

    def _report(self, collector: Client, pass_number: int, waiting: _Waiting, until: datetime | None) -> None:
        """Sends the outcomes that are due; all of the pass when `until` is None."""
        while batch := waiting.due(until, least=1 if until is None else OUTCOMES_A_BATCH // 5):
            try:
                # `as_of` is when each becomes known: the collector of a replay takes it for the time of arrival.
                collector.send_outcomes([one.document for one in batch])
            except Refused as refused:
                raise Unavailable("the collector refused outcomes", cause=refused.body[:1000]) from refused
            except Unreachable as fault:
                raise Unavailable("the collector does not answer", cause=str(fault)) from fault
            waiting.drop(len(batch))
            self._progress.took(pass_number, len(batch))


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
