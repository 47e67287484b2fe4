"""Runs the commands of the documents: `docs_commands.py FILE_OR_FOLDER...`; each distinct one once, in order.

Invariant: a command in a bash block that a reader could type is run, in a copy of the project, and must end with 0. A
line that ends with `\\` goes on in the next one. One that ends with `&` is a server: it must come to listen within a
minute, serves the commands after it, and must end with 0 on SIGTERM when all are done. Left out are `make` targets (CI
runs them by themselves) and blocks that say `# needs your data` or `# needs a cluster`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
COPIED = ("problems", "feature_repo", "examples")
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
LEFT_OUT = ("# needs your data", "# needs a cluster")
START_SECONDS, STOP_SECONDS = 180.0, 40.0
# Ports open one after the other; a server is ready when no more have come for this long.
SETTLED_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """1 when a command failed."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for folder in COPIED:
            shutil.copytree(ROOT / folder, scratch / folder, ignore=shutil.ignore_patterns(".serinus", "__pycache__"))
        shutil.copy(ROOT / "serinus.toml", scratch)
        return int(not all(run_all(commands(arguments), scratch)))


def commands(places: list[str]) -> list[str]:
    """The commands of all documents."""
    files = [path for place in places for path in ([Path(place)] if place.endswith(".md") else _markdown(Path(place)))]
    found: dict[str, None] = {}
    for path in files:
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            if any(one in block for one in LEFT_OUT):
                continue
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                command = line.split("  #")[0].strip()
                if command and not command.startswith(("#", "make ")):
                    found[command] = None
    return list(found)


def run_all(wanted: list[str], folder: Path) -> list[bool]:
    """Whether each was good: all of them are run, whatever the first says, and then the servers are stopped."""
    servers: list[tuple[str, subprocess.Popen[bytes], Path]] = []
    results = []
    try:
        for number, command in enumerate(wanted):
            with _timed(command) as told:
                if command.endswith("&"):
                    log = folder / f"server-{number}.log"
                    process = _spawn(command.removesuffix("&"), folder, log)
                    servers.append((command, process, log))
                    told.append("" if _listens(process) else _tail(log) or "does not listen")
                else:
                    told.append(_run(command, folder))
            results.append(not told[0])
    finally:
        for command, process, log in reversed(servers):
            with _timed(f"stop {command}") as told:
                told.append("" if _stop(process) == 0 else _tail(log) or f"ended with {process.returncode}")
            results.append(not told[0])
    return results


def _markdown(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERINUS_")}
    return environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}


def _run(command: str, folder: Path) -> str:
    """What it said if it failed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout[-1500:] + done.stderr[-1500:] or f"ended with {done.returncode}"


def _spawn(command: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command itself as a process, without a shell around it that would keep its signals."""
    with log.open("wb") as handle:
        return subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, env=_environment(), stdout=handle, stderr=subprocess.STDOUT
        )


def _listens(process: subprocess.Popen[bytes]) -> bool:
    deadline, ports, since = time.monotonic() + START_SECONDS, 0, time.monotonic()
    while process.poll() is None and time.monotonic() < deadline:
        now = sum(one.status == psutil.CONN_LISTEN for one in psutil.Process(process.pid).connections("tcp"))
        if now != ports:
            ports, since = now, time.monotonic()
        elif ports and time.monotonic() - since >= SETTLED_SECONDS:
            return True
        time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def _timed(command: str) -> Iterator[list[str]]:
    """Prints how long it took, and what is put into the list when it failed."""
    began, told = time.monotonic(), list[str]()
    yield told
    sys.stdout.write(f"{'FAIL' if told[0] else 'ok  '} {time.monotonic() - began:6.1f} s  {command}\n{told[0]}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
