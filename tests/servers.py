"""Real servers for tests, on loopback, always stopped by their handle."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# For clients of tests that are not about time: a busy machine must not look like a store that is away.
PATIENT_SECONDS = 30.0
# A folder of files in memory, where there is one, for what syncs: a process is killed there, not the disk, and no disk
# that others use keeps a server waiting.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# Below those that Linux gives to whoever asks for any: until a server has bound its port nobody else gets it by chance.
_FIRST_PORT, _PORTS, _WORKERS = 10_000, 5_500, 4
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A port that nobody listens on and that no other worker of the tests, and no later call, is given soon."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    for number in itertools.islice(_numbers, _PORTS):
        port = _FIRST_PORT + worker * _PORTS + number % _PORTS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("every port is taken")


class RedisServer:
    """A redis-server that keeps nothing, or with `durable` all it answered; can be killed and started on its port."""

    def __init__(self, folder: Path, *options: str, durable: bool = False) -> None:
        """`options` are further ones of redis-server's command line."""
        self.port, self._folder, self._options = free_port(), folder, options
        self._persistence = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is needed: apt-get install redis-server"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._persistence, *self._options]
        self._process = subprocess.Popen(
            [program, *options, "--dir", str(self._folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_until_loaded(self.port)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Alive and listening, but it answers nobody."""
        assert self._process, "not started"
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server(folder: Path, *, durable: bool = False) -> Iterator[RedisServer]:
    """Started, and stopped at the end."""
    server = RedisServer(folder, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _wait_until_loaded(port: int) -> None:
    """Redis listens before it has read what it kept."""
    wait_for_port(port)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
        answer = b""
        while not answer.startswith(b"+PONG"):
            asking.sendall(b"PING\r\n")
            answer = asking.recv(1_000)


def wait_for_port(port: int, seconds: float = 30.0) -> None:
    """Raises `TimeoutError` when nobody listens in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on port {port}")
