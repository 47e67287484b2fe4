"""The servers of the demo: a predictor and a collector on free ports of this machine, stopped when the demo ends.

Invariant: only processes started here are stopped, by their handle; what they said is in the demo's folder.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from serinus.core.errors import Unavailable
from serinus.core.names import ServiceRef
from serinus.files import DISK

START_SECONDS, STOP_SECONDS = 180.0, 30.0


@dataclass(frozen=True)
class Servers:
    """Where they listen, and how long it took until both answered."""

    endpoint: str
    collector: str
    seconds: float


@contextmanager
def running(service: ServiceRef, folder: Path) -> Iterator[Servers]:
    """Raises `Unavailable` with the last lines of its log when one does not come up."""
    http, outcomes = free_ports(2)
    endpoint, collector = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{outcomes}"
    began = time.perf_counter()
    with ExitStack() as stack:
        predictor = ("serve", service.shown, "--accept-event-time", "--port", str(http), "--grpc-port", "0")
        started = [stack.enter_context(_server(predictor, folder / "serve.log"))]
        intake = ("collect", service.shown, "--accept-event-time", "--port", str(outcomes))
        started.append(stack.enter_context(_server(intake, folder / "collect.log")))
        _wait(f"{endpoint}/v1/models/{service.name}", started[0], folder / "serve.log")
        _wait(f"{collector}/healthz", started[1], folder / "collect.log")
        yield Servers(endpoint, collector, time.perf_counter() - began)


@contextmanager
def collecting(service: ServiceRef, folder: Path, *, event_time: bool = True) -> Iterator[str]:
    """A collector alone; its address. Raises as `running` does."""
    (port,) = free_ports(1)
    log = folder / "collect.log"
    times = ("--accept-event-time",) if event_time else ()
    with _server(("collect", service.shown, *times, "--port", str(port)), log) as process:
        _wait(f"http://127.0.0.1:{port}/healthz", process, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _server(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    DISK.folder(log.parent)
    with log.open("wb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "serinus", *arguments], stdout=handle, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=1.0):  # noqa: S310 - an address of this machine
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise Unavailable(f"{' '.join(map(str, process.args[2:]))} did not come up", cause=log.read_text()[-1500:])  # type: ignore[index]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; taken all at once, so that they differ."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
