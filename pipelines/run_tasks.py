"""What a run of a backend says of its tasks, in the package's own names: states, and why a task failed.

Invariant: each task is told once. A backend lists the nodes of a workflow: every task twice, beside its driver, its
executor and the graph's own nodes; only those named as a task of the package is are tasks.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.kfp_api import KfpRuns
from serinus.core.endings import heard

_SHOWN = 5  # lines of the log of a task that left no reason
# The launcher's own lines, and those of the workflow's executor around it.
_NOT_OURS = re.compile(r"[IWEF]\d{4} |.*\bargo=true\b|Error: exit status \d+$|\s*$")
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Failure:
    """Why a task failed. `task` is a step of ours, or the tasks among which it is; an exit code of 1 says nothing."""

    task: str
    headline: str
    cause: str = ""
    exit_code: int = 1


def task_names(package: Mapping[str, Any]) -> dict[str, str]:
    """The shown name of each task of a compiled pipeline, by the key that the backend knows it by."""
    components = package.get("components", {})
    dags = [package.get("root", {}), *components.values()]
    return {
        key: str(task.get("taskInfo", {}).get("name") or key)
        for one in dags
        for key, task in one.get("dag", {}).get("tasks", {}).items()
        if "dag" not in components.get(task["componentRef"]["name"], {})
    }


def task_states(run: Any, names: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401 - V2beta1Run
    """The state of each task that has one, in lower case, by its shown name."""
    known = [one for one in _details(run) if one.display_name in names and one.state]
    return {names[one.display_name]: str(one.state).lower() for one in known}


def is_pending(run: Any) -> bool:  # noqa: ANN401 - V2beta1Run
    """Whether a pod of the run waits to be started."""
    return any(one.state == "PENDING" for one in _details(run))


def failures(runs: KfpRuns, run: Any, states: Mapping[str, str]) -> tuple[Failure, ...]:  # noqa: ANN401 - V2beta1Run
    """Why tasks failed, the first one first, from their logs; a failed task without a log is told as such."""
    failed = [name for name, state in states.items() if state == "failed"]
    found = [_failure(runs, run.run_id, node, failed) for node in _failed_pods(run)]
    if failed and not found:
        return (Failure(", ".join(failed), "failed before it wrote a log"),)
    return tuple(found)


def _failed_pods(run: Any) -> Iterator[str]:  # noqa: ANN401 - V2beta1Run
    """The last try of every executor that failed, in the order of their ends."""
    failed = [one for one in _details(run) if one.display_name == "executor" and one.state == "FAILED"]
    for one in sorted(failed, key=lambda one: one.end_time or _NEVER):
        if one.child_tasks:
            yield str(one.child_tasks[-1].pod_name)


def _failure(runs: KfpRuns, run_id: str, node: str, failed: list[str]) -> Failure:
    lines = [line.rstrip() for line in runs.log(run_id, node) if not _NOT_OURS.match(line)]
    words = heard(lines)
    if words is not None:
        step, error = words
        return Failure(step, error.headline, error.cause, error.exit_code)
    *before, last = lines[-_SHOWN:] or ["its log cannot be read"]
    return Failure(" or ".join(failed), last, "\n".join(before))


def _details(run: Any) -> list[Any]:  # noqa: ANN401 - V2beta1Run
    return (run.run_details.task_details if run.run_details else None) or []
