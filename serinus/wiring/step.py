"""Runs one pipeline step: opens the project, times it, records how it ended.

Invariant: a step leaves exactly one record, also when it fails; a known fault leaves its headline, cause and hint, so
the caller of the pipeline sees the reason and not the traceback of a subprocess.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from serinus.core.endings import told
from serinus.core.errors import SerinusError
from serinus.core.run import StepError, StepRecord
from serinus.wiring.disk_faults import accessible
from serinus.wiring.journal import Journal
from serinus.wiring.lifeline import follow
from serinus.wiring.made_of import made_of
from serinus.wiring.problem_code import telling
from serinus.wiring.project import LoadedProblem, Project, open_project


class _ImportClock:
    """Stands in for `__import__` and adds up the seconds spent in it, nested imports counted once."""

    def __init__(self) -> None:
        self.seconds, self._nested, self._real = 0.0, False, builtins.__import__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the signature of __import__
        if self._nested:
            return self._real(*args, **kwargs)
        self._nested, began = True, time.perf_counter()
        try:
            return self._real(*args, **kwargs)
        finally:
            self._nested, self.seconds = False, self.seconds + time.perf_counter() - began

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts within the block."""
        builtins.__import__ = self
        try:
            yield
        finally:
            builtins.__import__ = self._real


@dataclass
class StepContext:
    """What a step works with: its problem, the project's profile, and the facts it will leave behind."""

    name: str
    run: str
    project: Project
    problem: LoadedProblem
    journal: Journal
    made_of: dict[str, str]
    reads: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def code_hash(self) -> str:
        """Of all code that the step runs: ours and the problem's."""
        code = {name: value for name, value in self.made_of.items() if name.startswith(("file ", "code "))}
        return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


@contextmanager
def _last_words(name: str) -> Iterator[None]:
    """In a pipeline's own process a known fault is the end of its log, and its exit code."""
    try:
        yield
    except SerinusError as fault:
        if not os.environ.get("_KFP_RUNTIME"):
            raise
        sys.stderr.write(told(name, StepError.model_validate(fault.as_dict())))
        sys.exit(fault.exit_code)


@contextmanager
def step(
    name: str,
    problem: str,
    job: str,
    reads: Mapping[str, Path] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Iterator[StepContext]:
    """The frame of a step. `job` is the pipeline's job id; SERINUS_RUN, set by local runs, names the run instead.

    `reads` are its inputs and `parameters` what it was asked: both go into its record, by which a run that is taken up
    again knows whether the step would make the same (`serinus.wiring.made_of`).
    In a pipeline's own process a known fault ends the process with its exit code; elsewhere it goes on as raised.
    """
    with _last_words(name), accessible():
        places = {key: str(path) for key, path in (reads or {}).items()}
        yield from _recorded(name, problem, job, places, parameters or {})


def _recorded(
    name: str, problem: str, job: str, places: dict[str, str], parameters: Mapping[str, str]
) -> Iterator[StepContext]:
    own_process = bool(os.environ.get("_KFP_RUNTIME"))
    if own_process:
        follow()
    start_up = time.time() - psutil.Process().create_time() if own_process else 0.0
    started, began, imports = datetime.now(UTC), time.perf_counter(), _ImportClock()
    project = open_project()
    journal = Journal(project.home, problem, os.environ.get("SERINUS_RUN") or job)
    journal.begin()
    facts: dict[str, Any] = {}
    made: dict[str, str] = {}
    error: StepError | None = None
    try:
        with imports.running(), accessible():
            loaded = project.problem(problem)
            made.update(made_of(project, loaded, name, places, parameters))
            with telling([loaded.folder.resolve(), project.feature_repo.resolve()]):
                yield StepContext(name, journal.run, project, loaded, journal, made, places, facts)
    except SerinusError as fault:
        error = StepError.model_validate(fault.as_dict())
        raise
    except BaseException as fault:
        error = StepError(error=type(fault).__name__, headline=f"step {name} broke: {type(fault).__name__}: {fault}")
        raise
    finally:
        record = StepRecord(
            name=name,
            status="failed" if error else "ok",
            started_at=started,
            seconds=start_up + time.perf_counter() - began,
            import_seconds=start_up + imports.seconds,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            made_of=made,
            reads=places,
            facts=facts,
            error=error,
        )
        journal.write(record)
