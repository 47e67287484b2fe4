"""One tick's view of a service, and its right to change it (DESIGN D5).

Invariant: a tick reads once. What it writes holds only over what it read, what it does is fenced by its latest write,
and one that took too long, by a clock that goes on while the process is stopped, writes and does nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serinus.core.errors import Conflict
from serinus.core.rollout.memory import ServiceMemory
from serinus.core.rollout.ports import Change, ServiceStore, Snapshot

MOST_SECONDS = 10.0


def running_clock() -> float:
    """Seconds that go on while this process is stopped, and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Limit:
    """How long a tick may live, in seconds of `clock`."""

    seconds: float = MOST_SECONDS
    clock: Callable[[], float] = running_clock


class Tick:
    """Reads the service when it is made. Every call but `snapshot` raises `Conflict` once it must not go on."""

    def __init__(self, store: ServiceStore, limit: Limit) -> None:
        self._store, self._limit, self._began = store, limit, limit.clock()
        self.snapshot: Snapshot = store.load()

    @property
    def memory(self) -> ServiceMemory:
        """Of the service, with what this tick wrote."""
        return self.snapshot.memory

    def save(self, change: Change) -> None:
        """Writes a change over what this tick knows."""
        with self.fenced():
            token = self._store.save(change, self.snapshot.token)
        self.snapshot = self.snapshot.after(change, token)

    def remember(self, memory: ServiceMemory) -> None:
        """Writes the memory of the service, where it is another one."""
        if memory != self.memory:
            self.save(Change(memory=memory))

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Around a write or an act: nobody else changes the service meanwhile."""
        self._in_time()
        with self._store.fence(self.snapshot.token):
            self._in_time()
            yield

    def _in_time(self) -> None:
        if self._limit.clock() - self._began > self._limit.seconds:
            raise Conflict("this tick began too long ago to go on", cause="its process was stopped, or a call hung")
