"""What a cluster is made of: components, which run until they are stopped, and tasks, which are done once.

Invariant: a component counts as started when its probe says so, never because time has passed; one that ends is named
with its last words.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# What is still missing, in words; nothing when ready.
Probe = Callable[[], str]
_LAST_LINES = 15
_PAUSE = 0.1


class PartFailed(Exception):
    """A part that did not start or has ended; the text tells which and why."""


@dataclass(frozen=True)
class Component:
    """A process. `needs` names the parts that must be ready before it starts; `patience` is in seconds."""

    name: str
    command: tuple[str, ...]
    probe: Probe
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    patience: float = 60.0


@dataclass(frozen=True)
class Task:
    """Something to do once; it raises when it fails."""

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()


Part = Component | Task


def needed(parts: Sequence[Part], wanted: Sequence[str]) -> list[Part]:
    """The parts with the names wanted and all that they need, directly or not; all parts when none is named."""
    by_name = {one.name: one for one in parts}
    unknown = set(wanted) - set(by_name)
    if unknown:
        raise ValueError(f"no part {', '.join(sorted(unknown))}; known: {', '.join(by_name)}")
    found, left = set[str](), list(wanted or by_name)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += by_name[name].needs
    return [one for one in parts if one.name in found]


def waiting(name: str, probe: Probe, needs: tuple[str, ...], patience: float = 120.0) -> Task:
    """A task that is done when its probe says so."""

    def run() -> None:
        limit = time.monotonic() + patience
        while missing := probe():
            if time.monotonic() > limit:
                raise PartFailed(f"{name}: {missing}")
            time.sleep(_PAUSE)

    return Task(name, run, needs)


class Process:
    """A component's process and its log."""

    def __init__(self, component: Component, logs: Path) -> None:
        self.component, self.log = component, logs / f"{component.name}.log"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(component.environment),
                start_new_session=True,
            )

    def await_ready(self, stopping: threading.Event) -> None:
        """Raises `PartFailed` when it ends before, or is not ready in time."""
        limit = time.monotonic() + self.component.patience
        missing = "not asked yet"
        while time.monotonic() < limit and not stopping.is_set():
            self.require_alive()
            missing = self.component.probe()
            if not missing:
                return
            time.sleep(_PAUSE)
        raise PartFailed(f"{self.component.name} is not ready: {missing}\n{self.last_words()}")

    def require_alive(self) -> None:
        """Raises `PartFailed` once the process has ended."""
        code = self._child.poll()
        if code is not None:
            raise PartFailed(f"{self.component.name} ended with {_told(code)}\n{self.last_words()}")

    def last_words(self) -> str:
        """The last lines of the log."""
        return last_lines(self.log)

    def stop(self, patience: float = 5.0) -> None:
        """Asks, then insists."""
        self._child.terminate()
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def last_lines(log: Path) -> str:
    """The end of a log, indented; says so when there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line[:400]}" for line in lines[-_LAST_LINES:]) or "    (it said nothing)"


def _told(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
