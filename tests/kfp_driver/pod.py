"""Runs a task of a compiled pipeline as the backend's launcher does: a process and an empty folder of its own.

Invariant: a task finds its declared input artifacts and nothing else of the tasks before it; what it declared as output
is taken along when it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kfp_driver.recorded import below, executor_inputs


@dataclass
class Backend:
    """A compiled package, and the folder in which pods and the object store live."""

    package: Path
    folder: Path
    environment: dict[str, str]
    inputs: dict[str, Any] = field(default_factory=executor_inputs)

    def order(self) -> list[str]:
        """All tasks, each after those that it needs; the exit task last."""
        root, body = self._dags()
        waiting, done = dict(body), []
        while waiting:
            name = next(one for one, task in waiting.items() if set(task.get("dependentTasks", ())) <= set(done))
            done.append(name)
            del waiting[name]
        return [*done, *(name for name, task in root.items() if "triggerPolicy" in task)]

    def run(self, task: str) -> subprocess.CompletedProcess[str]:
        """The task's own command with its recorded input."""
        pod = self.folder / "pods" / task
        (pod / "empty").mkdir(parents=True)
        given = below(pod, self.inputs[task])
        for place in _places(given["inputs"]):
            shutil.copytree(self._stored(place, pod), place)
        done = subprocess.run(
            self._command(task, json.dumps(given)), cwd=pod / "empty", env=self._environment(), text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        for place in _places(given["outputs"]):
            if place.is_dir():
                shutil.copytree(place, self._stored(place, pod))
        return done

    def result(self, task: str) -> dict[str, Any]:
        """What the executor wrote of a task that ended."""
        path = Path(below(self.folder / "pods" / task, self.inputs[task])["outputs"]["outputFile"])
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _stored(self, place: Path, pod: Path) -> Path:
        return self.folder / "store" / place.relative_to(pod)

    def _environment(self) -> dict[str, str]:
        # Commands of components say `python3`, which is the image's.
        return self.environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def _command(self, task: str, given: str) -> list[str]:
        spec = self._spec()
        root, body = self._dags()
        component = spec["components"][(root | body)[task]["componentRef"]["name"]]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        return [given if part == "{{$}}" else part for part in (*container["command"], *container["args"])]

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = next(yaml.safe_load_all(self.package.read_text(encoding="utf-8")))
        return spec

    def _dags(self) -> tuple[dict[str, Any], dict[str, Any]]:
        spec = self._spec()
        root = spec["root"]["dag"]["tasks"]
        inner = [spec["components"][task["componentRef"]["name"]] for task in root.values()]
        return root, next(one["dag"]["tasks"] for one in inner if "dag" in one)


def _places(side: dict[str, Any]) -> list[Path]:
    return [Path(found["uri"]) for one in side.get("artifacts", {}).values() for found in one["artifacts"]]
