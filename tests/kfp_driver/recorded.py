"""Reads what a real driver handed to each task, with the names that components have today.

Invariant: shapes stay as recorded. What a component gained, lost or renamed after the recording is a line of the tables
below, and `test_components.py` fails for the name that is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "executor_inputs.json"
# By task: the names of artifacts and parameters then -> now.
RENAMED: dict[str, dict[str, str]] = {}
# By task: parameters that came later, with what the driver hands over where `submit` gives nothing.
ADDED: dict[str, dict[str, Any]] = {"prepare": {"definition": ""}, "deploy": {"service": "renewal"}}


def executor_inputs() -> dict[str, Any]:
    """The `--executor_input` of each task, by the task's key in the compiled pipeline."""
    tasks: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    for name, task in tasks.items():
        names = RENAMED.get(name, {})
        for side in (task["inputs"], task["outputs"]):
            for kind in ("artifacts", "parameterValues", "parameters"):
                if kind in side:
                    side[kind] = {names.get(key, key): value for key, value in side[kind].items()}
        task["inputs"]["parameterValues"] |= ADDED.get(name, {})
    return tasks


def below(folder: Path, given: Any) -> Any:
    """The same with every place under a folder of the test's own, where a pod has `/minio` and `/tmp/kfp`."""
    if isinstance(given, dict):
        return {name: below(folder, value) for name, value in given.items()}
    if isinstance(given, list):
        return [below(folder, value) for value in given]
    if isinstance(given, str) and given.startswith(("minio://", "/minio/", "/tmp/kfp/")):
        return str(folder / given.replace("://", "/").lstrip("/"))
    return given
