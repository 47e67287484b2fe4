"""Pipeline runs of this machine that were cut off: their MLflow runs are closed as killed by whoever comes next.

Invariant: a run is cut off when its lock is there and nobody holds it. A run that lives holds its lock, and one of
another machine or of Kubeflow has none here: neither is ever touched.
"""

from __future__ import annotations

from pathlib import Path

from serinus.core.errors import Conflict, SerinusError
from serinus.files import is_locked
from serinus.wiring.adapters import tracker
from serinus.wiring.lifeline import held
from serinus.wiring.project import Project

REASON = "interrupted or killed before it ended"


def run_lock(run: Path, problem: str) -> Path:
    """What the process of a pipeline run holds while it lives, and removes when the run has ended."""
    return run / f".{problem}.lock"


def close_cut_off(project: Project, problem: str, *, but: str = "") -> list[str]:
    """Closes those that are open in MLflow, and names them; not run `but`, which is about to go on.

    What MLflow does not take now is tried again by whoever comes next.
    """
    locks = sorted((project.home / "runs").glob(f"*/{run_lock(Path(), problem).name}"))
    closed = []
    for lock in locks:
        if lock.parent.name == but or is_locked(lock):
            continue
        try:
            with held(lock, Conflict(f"run {lock.parent.name} goes on")):
                open_still = tracker(project).abandon(problem, lock.parent.name, reason=REASON)
                lock.unlink()
        except SerinusError:
            break
        closed += [lock.parent.name] if open_still else []
    return closed
