"""Runs the pipeline's steps as forks of this process, which has imported what they need.

kfp.local starts a Python for each step, and thirteen of them spend a minute importing the same libraries. Graph,
components and executor inputs are those of kfp.local, and a step is a process of its own here as well: only its imports
are paid for once.
Invariant: this process has started no thread of a library by then; a fork would not have it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from kfp.dsl.component_factory import EXECUTOR_MODULE
from kfp.local import subprocess_task_handler

from pipelines.local import LocalRun, OnEvent, run_local
from serinus.core.errors import DataError
from serinus.wiring.journal import Journal
from serinus.wiring.project import Project
from serinus.wiring.resume import Resumable
from serinus.wiring.shared import turn

_NEEDED = (
    "mlflow", "feast", "great_expectations", "lightgbm", "sklearn.linear_model", "kfp.dsl.executor",
    "serinus.registry.registry", "serinus.registry.tracker", "serinus.features.feast_store", "serinus.report",
    "serinus.validation.run", "serinus.wiring.steps.data", "serinus.wiring.steps.models",
    "serinus.wiring.steps.release", "serinus.wiring.summary",
)  # fmt: skip


def train(project: Project, problem: str, name: str, register: str, on_event: OnEvent, *, service: str = "") -> None:
    """`serinus pipeline run PROBLEM --name NAME --register REGISTER --service SERVICE`.

    Raises what its first failed step recorded.
    """
    loaded, journal = project.problem(problem), Journal(project.home, problem, name)
    with turn(project.home, problem, name), _forked_steps():
        file = Resumable(project, loaded, journal).begin(register, service)
        run = LocalRun(loaded.card, name, file.register_, file.ref, project.root, project.home, file.kept(loaded.card))
        failed = run_local(run, on_event)
    if failed:
        failure = journal.read().failure()
        told = failure.error if failure else None
        cause = told.headline if told else "\n".join(failed.lines)
        raise DataError(f"step {failed.name} of the pipeline failed", cause=cause, hint=f"its log: {run.folder}")


def imported() -> None:
    """This process has imported what steps need."""
    for name in _NEEDED:
        import_module(name)


@contextmanager
def _forked_steps() -> Iterator[None]:
    """While it lasts, kfp.local forks. There is no setting for it: the function that starts a process is replaced."""
    imported()
    before = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = _run
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = before


def _run(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
    """As kfp's: prints what the step says, and gives its exit code."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        _as_a_step(full_command, env_vars or {}, writes)
    os.close(writes)
    try:
        with os.fdopen(reads, encoding="utf-8", errors="replace") as said:
            for line in said:
                sys.stdout.write(line)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _as_a_step(command: Sequence[str], env_vars: Mapping[str, str], output: int) -> None:
    """What kfp's shell command does: writes the component's source to a file and executes it. Does not return."""
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ.update(env_vars, _KFP_RUNTIME="true")
        place = next(number for number, part in enumerate(command) if EXECUTOR_MODULE in part)
        source = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
        source.write_text(command[place + 1], encoding="utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(source), *command[place + 2 :]]
        runpy.run_module(EXECUTOR_MODULE, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - the edge of a process, which must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
