"""Starts the parts of a cluster in parallel, each as soon as what it needs is ready.

Invariant: nothing starts before its needs are ready; the first failure keeps everything that has not begun from
starting, and is what `start` raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.cluster.bed.parts import Component, Part, PartFailed, Process

State = Literal["waiting", "starting", "ready", "failed", "ended"]


@dataclass
class PartStatus:
    """How far a part is; `seconds` from its start to ready."""

    name: str
    kind: str
    state: State = "waiting"
    seconds: float = 0.0
    message: str = ""


class Graph:
    """The parts of one cluster. `changed` is told of every new state."""

    def __init__(self, parts: Sequence[Part], logs: Path, changed: Callable[[list[PartStatus]], None]) -> None:
        names = [one.name for one in parts]
        unknown = {need for one in parts for need in one.needs} - set(names)
        if unknown or len(set(names)) < len(names):
            raise ValueError(f"parts must have different names and known needs; unknown: {sorted(unknown)}")
        self._parts, self._logs, self._changed = parts, logs, changed
        self._order = _ordered(parts)
        self._status = {one.name: PartStatus(one.name, type(one).__name__.lower()) for one in parts}
        self._processes: dict[str, Process] = {}
        self._lock, self._stopping = threading.Lock(), threading.Event()

    def start(self) -> None:
        """Raises `PartFailed` with the first part that fails."""
        left, running = list(self._parts), dict[Future[None], str]()
        with ThreadPoolExecutor(max_workers=len(self._parts)) as pool:
            while left or running:
                ready = {name for name, one in self._status.items() if one.state == "ready"}
                for part in [one for one in left if ready.issuperset(one.needs)]:
                    left.remove(part)
                    running[pool.submit(self._start, part)] = part.name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                self._settle(done, running)

    def _settle(self, done: set[Future[None]], running: dict[Future[None], str]) -> None:
        for one in done:
            del running[one]
            fault = one.exception()
            if fault is not None:
                raise fault

    def _start(self, part: Part) -> None:
        began = time.monotonic()
        self._say(part.name, "starting")
        try:
            if isinstance(part, Component):
                process = self._processes[part.name] = Process(part, self._logs)
                process.await_ready(self._stopping)
            else:
                part.run()
        except Exception as fault:
            if not self._is_first():
                self._say(part.name, "waiting", message="given up: another part failed before it")
                return
            self._say(part.name, "failed", time.monotonic() - began, str(fault))
            raise fault if isinstance(fault, PartFailed) else PartFailed(f"{part.name} failed: {fault}") from fault
        self._say(part.name, "ready", time.monotonic() - began)

    def _is_first(self) -> bool:
        """Whether nothing failed before; what fails after it may have been given up on, or miss what it needs."""
        with self._lock:
            first = not self._stopping.is_set()
            self._stopping.set()
            return first

    def look(self) -> None:
        """Notes the components that have ended since they were ready."""
        for name, process in list(self._processes.items()):
            if self._status[name].state == "ready":
                try:
                    process.require_alive()
                except PartFailed as fault:
                    self._say(name, "ended", self._status[name].seconds, str(fault))

    def stop(self) -> None:
        """Stops what runs: what needs others before these."""
        for name in reversed(self._order):
            if name in self._processes:
                self._processes[name].stop()

    def _say(self, name: str, state: State, seconds: float = 0.0, message: str = "") -> None:
        with self._lock:
            one = self._status[name]
            one.state, one.seconds, one.message = state, round(seconds, 1), message
            self._changed([PartStatus(**asdict(each)) for each in self._status.values()])


def _ordered(parts: Sequence[Part]) -> list[str]:
    """Names, needs first. Raises `ValueError` when parts need each other."""
    order: list[str] = []
    while len(order) < len(parts):
        free = [one.name for one in parts if one.name not in order and set(one.needs) <= set(order)]
        if not free:
            raise ValueError(f"these parts need each other: {sorted({one.name for one in parts} - set(order))}")
        order += free
    return order
