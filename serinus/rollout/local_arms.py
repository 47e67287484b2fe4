"""Arms as processes of this machine: a predictor a revision, on a port of its own.

Invariant: a record on disk names each process by id and start time, or by its command while it is being started; so
another engine finds the arms that run, no process that merely has the same id is ever touched, and none that merely
has its port is taken for an arm. One that was started otherwise than this engine would start it, by another command or
from other code, is replaced and never taken over.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from serinus.core.errors import NotFound
from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.ports import Gone, Pending, Removed
from serinus.core.rollout.spec import Revision
from serinus.files import DISK

# The command that serves a revision on a port.
Launch = Callable[[Revision, int], Sequence[str]]
STOP_SECONDS, MOMENT_SECONDS = 30.0, 0.5
MOST_STARTS = 3
# An arm that has answered for so long is sound: what ends it later is another fault than the one before.
STEADY_SECONDS = 60.0
_TAIL = 1_500


class _Record(BaseModel):
    """`pid` 0: `command` was about to be started, or, without one, the arm was stopped and its port is kept.

    `ending`: since when (epoch s) its process was told to end, to be removed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int
    starts: int = 0
    command: tuple[str, ...] = ()
    made_of: str = ""
    pid: int = 0
    created: float = 0.0
    ending: float | None = None


class LocalArms:
    """`Arms` below `folder`: a record and a log an arm. `made_of` stands for the code that an arm runs."""

    def __init__(
        self,
        folder: Path,
        service: str,
        launch: Launch,
        *,
        now: Callable[[], float],
        host: str = "127.0.0.1",
        made_of: str = "",
    ) -> None:
        DISK.folder(folder)
        self._made_of = made_of
        self._folder, self._service, self._launch, self._now, self._host = folder, service, launch, now, host
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._last: dict[str, ArmCondition] = {}

    def ensure(self, revision: Revision) -> None:
        """See `Arms`. One that died is started again on its port, but not for ever: see `MOST_STARTS`."""
        record = self._record(revision.name)
        if record is None:
            self._start(revision, _free_port(self._host), 1)
            return
        if not self._as_wanted(revision, record):
            self.stop(revision.name)
            self._start(revision, record.port, 1)
        elif record.ending is not None:
            if self._process(record) is None:
                self._start(revision, record.port, 1)
        elif self._process(record) is None and record.starts < MOST_STARTS:
            self._start(revision, record.port, record.starts + 1)

    def _as_wanted(self, revision: Revision, record: _Record) -> bool:
        """Its command says all that it was told: event time, salt, stores, covariates, port."""
        return (record.command, record.made_of) == (tuple(self._launch(revision, record.port)), self._made_of)

    def condition(self, revision: Revision) -> ArmCondition:
        """See `Arms`."""
        readiness, reason = self._readiness(revision)
        last = self._last.get(revision.name)
        since = last.since if last is not None and last.readiness is readiness else self._now()
        found = self._last[revision.name] = ArmCondition(readiness=readiness, since=since, reason=reason)
        if readiness is Readiness.READY and self._now() - since >= STEADY_SECONDS:
            self._forgive(revision.name)
        return found

    def _readiness(self, revision: Revision) -> tuple[Readiness, str]:
        record = self._record(revision.name)
        if record is None:
            return Readiness.STARTING, "not started"
        process = self._process(record)
        if process is None:
            if record.starts >= MOST_STARTS:
                return Readiness.FAILED, self._last_words(revision)
            return Readiness.STARTING, "ended" if record.starts else "not started"
        if record.ending is not None:
            return Readiness.STARTING, "ends first, and is started again then"
        if not self._as_wanted(revision, record):
            return Readiness.STARTING, "was started with other settings"
        # In this order: somebody else's predictor on the port would answer as well, with another model.
        ready = _listens(process, record.port) and self._answers(record.port)
        return (Readiness.READY, "") if ready else (Readiness.STARTING, "loads its model")

    def _forgive(self, name: str) -> None:
        """An arm that was steady has all its starts again."""
        record = self._record(name)
        if record is not None and record.starts > 1:
            self._remember(name, record.model_copy(update={"starts": 1}))

    def endpoint(self, name: str) -> str:
        """The address of a revision that was ensured. Raises `NotFound`."""
        record = self._record(name)
        if record is None:
            raise NotFound(f"no arm {name} runs here")
        return f"http://{self._host}:{record.port}"

    def running(self) -> list[str]:
        """Names of the revisions that have a process."""
        records = {path.stem: self._record(path.stem) for path in sorted(self._folder.glob("*.json"))}
        return [name for name, record in records.items() if record is not None and self._process(record)]

    def remove(self, revision: Revision) -> Removed:
        """See `Arms`. It is told once to end, and killed when it has not after `STOP_SECONDS`."""
        name, record = revision.name, self._record(revision.name)
        process = self._process(record) if record is not None else None
        if record is not None and process is not None and not self._ended(name, record, process):
            return Pending("it answers what it took")
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(STOP_SECONDS)
        self._last.pop(name, None)
        DISK.remove(self._folder / f"{name}.json")
        return Gone()

    def _ended(self, name: str, record: _Record, process: psutil.Process) -> bool:
        """Whether it has ended; most do in a moment."""
        try:
            if record.ending is None:
                self._remember(name, record.model_copy(update={"ending": self._now()}))
                process.terminate()
            elif self._now() - record.ending > STOP_SECONDS:
                process.kill()
            process.wait(MOMENT_SECONDS)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            return False
        return True

    def stop(self, name: str) -> None:
        """Ends the process of a revision by its name; its requests in flight are answered first.

        Its port is kept, so that a route that leads there holds when the arm is back.
        """
        record = self._record(name)
        process = self._process(record) if record is not None else None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(STOP_SECONDS)
        if record is not None:
            self._remember(name, _Record(port=record.port))
        self._last.pop(name, None)

    def _start(self, revision: Revision, port: int, starts: int) -> None:
        """Said before and after: a process that nobody knows of would run for ever."""
        command = tuple(self._launch(revision, port))
        begun = _Record(port=port, starts=starts, command=command, made_of=self._made_of)
        self._remember(revision.name, begun)
        with (self._folder / f"{revision.name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the engine, which stops its arms in order
            )
        self._children[revision.name] = child
        created = psutil.Process(child.pid).create_time()
        self._remember(revision.name, begun.model_copy(update={"pid": child.pid, "created": created}))

    def _remember(self, name: str, record: _Record) -> None:
        DISK.replace(self._folder / f"{name}.json", record.model_dump_json())

    def _record(self, name: str) -> _Record | None:
        try:
            return _Record.model_validate_json((self._folder / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _process(self, record: _Record) -> psutil.Process | None:
        """The process of a record, while it runs."""
        for child in self._children.values():
            child.poll()  # reaps those that ended
        if not record.pid:
            return _running(record.command)
        try:
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def _answers(self, port: int) -> bool:
        try:
            address = f"http://{self._host}:{port}/v1/models/{self._service}"
            with urlopen(address, timeout=2.0) as answer:
                return bool(json.load(answer).get("ready"))
        except (URLError, OSError, ValueError):
            return False

    def _last_words(self, revision: Revision) -> str:
        path = self._folder / f"{revision.name}.log"
        return (
            path.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip() if path.exists() else "it said nothing"
        )


def _running(command: tuple[str, ...]) -> psutil.Process | None:
    """A process of exactly this command; it names revision and port, so there is at most one."""
    found = (one for one in psutil.process_iter(["cmdline"]) if command and one.info["cmdline"] == list(command))
    return next(found, None)


def _listens(process: psutil.Process, port: int) -> bool:
    """Whether it is this process that listens on a port."""
    try:
        opened = process.connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in opened)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
