"""Runs a training pipeline on this machine with kfp.local: each step a process of its own, no server, no container.

Invariant: the same components run as on a cluster; an interrupted run can be taken up again, because finished steps are
cached inside the run's own folder and nowhere else. No step outlives the process that runs the pipeline.
"""

import contextlib
import io
import os
import re
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from kfp import local

from pipelines.training import training_pipeline
from serinus.core.card import Problem
from serinus.core.errors import Conflict
from serinus.core.names import ServiceRef
from serinus.wiring.abandoned import run_lock
from serinus.wiring.lifeline import held

_EVENT = re.compile(r"(Executing task|Task) .*?'([a-z0-9-]+)'.*?(?:status .*?(SUCCESS|FAILURE)|$)")
_STOP_SECONDS = 10.0
_SHOWN = 5  # lines of the output of a task that failed
OnEvent = Callable[[str, str], None]


@dataclass(frozen=True)
class LocalRun:
    """One run: its problem, name, register choice, where it deploys, the project it runs in, the folder it writes to.

    `kept` are the names under which the results of its steps are cached.
    """

    card: Problem
    name: str
    register: str
    service: ServiceRef
    project: Path
    home: Path
    kept: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Journal, log and cache of the run."""
        return self.home / "runs" / self.name


@dataclass(frozen=True)
class FailedTask:
    """The first task of a run that failed, and the last lines of its output."""

    name: str
    lines: tuple[str, ...]


def run_local(run: LocalRun, on_event: OnEvent) -> FailedTask | None:
    """Runs to the end; None when every step succeeded. `on_event(task, state)`: started, succeeded or failed.

    Output of the steps goes to `pipeline.log` in the run's folder. KeyboardInterrupt passes through, once the step that
    was running has ended. Raises `Conflict` while the run is under way in another process.
    """
    taken = Conflict(f"the run {run.name} is under way", hint="wait for its end, or interrupt it first")
    lock = run_lock(run.folder, run.card.name)
    with held(lock, taken):
        try:
            failed = _run(run, on_event)
        except BaseException:
            _end_steps()
            raise
        lock.unlink()
    return failed


def _end_steps() -> None:
    """What this process started and what that started: asked first, then killed."""
    below = psutil.Process().children(recursive=True)
    for one in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, deaf = psutil.wait_procs(below, timeout=_STOP_SECONDS)
    for one in deaf:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(deaf, timeout=_STOP_SECONDS)


def _run(run: LocalRun, on_event: OnEvent) -> FailedTask | None:
    pipeline = training_pipeline(run.card, kept=run.kept)
    with (
        tempfile.TemporaryDirectory(prefix="serinus-") as scratch,
        _environment(run, scratch),
        (run.folder / "pipeline.log").open("a", encoding="utf-8") as log,
    ):
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run.folder / "artifacts"),
            raise_on_error=True,
            enable_caching=True,
            cache_root=str(run.folder / "cache"),
        )
        watched = _Watched(log, on_event)
        with contextlib.redirect_stdout(watched), warnings.catch_warnings():
            # Cluster settings have no effect here, and kfp says so for every task.
            warnings.simplefilter("ignore")
            try:
                pipeline(problem=run.card.name, register=run.register, service=str(run.service))
            except RuntimeError as fault:
                log.write(f"{fault}\n")
                return watched.failed or FailedTask("the pipeline", (str(fault),))
    return None


@contextlib.contextmanager
def _environment(run: LocalRun, scratch: str) -> Iterator[None]:
    """What the steps' processes inherit. Each leaves a folder where temporary files go, for kfp removes none."""
    wanted = {
        "SERINUS_RUN": run.name,
        "SERINUS_PROJECT": str(run.project),
        "SERINUS_HOME": str(run.home),
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": scratch,
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Watched(io.TextIOBase):
    """Passes text on to the log, tells of tasks that start and end, and keeps the first that failed."""

    def __init__(self, log: io.TextIOBase, on_event: OnEvent) -> None:
        self.failed: FailedTask | None = None
        self._log, self._on_event, self._line = log, on_event, ""
        self._last: deque[str] = deque(maxlen=_SHOWN)

    def write(self, text: str) -> int:
        """See `TextIOBase`."""
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._seen(re.sub(r"\x1b\[[0-9;]*m", "", line))
        return len(text)

    def flush(self) -> None:
        """See `TextIOBase`."""
        self._log.flush()

    def _seen(self, line: str) -> None:
        found = _EVENT.search(line)
        if found is None:
            if line.strip():
                self._last.append(line.strip())
            return
        verb, task, status = found.groups()
        if verb == "Executing task":
            self._last.clear()
            self._on_event(task, "started")
        elif status:
            if status == "FAILURE":
                self.failed = self.failed or FailedTask(task, tuple(self._last))
            self._on_event(task, "succeeded" if status == "SUCCESS" else "failed")
