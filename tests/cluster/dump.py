"""What a namespace looked like when a test failed: objects, events, and what every container said.

Invariant: a part that cannot be had is replaced by the reason; dumping never hides the failure of the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.cluster.kube import Document, Kube, KubectlFailed

KINDS = (
    "inferenceservices",
    "servingruntimes",
    "gateways",
    "httproutes",
    "deployments",
    "replicasets",
    "statefulsets",
    "jobs",
    "pods",
    "services",
    "endpointslices",
    "persistentvolumeclaims",
    "configmaps",
)
# Whose pods carry the traffic of every namespace.
GATEWAYS = "envoy-gateway-system"
_LINES = 2_000
# Here and not in conftest.py, which pytest loads under another name than the tests that would import it.
OPEN: set[str | Path] = set()


@contextmanager
def opened(what: str | Path) -> Iterator[None]:
    """A namespace, or the logs of a test's own bed: dumped when a test fails meanwhile."""
    OPEN.add(what)
    try:
        yield
    finally:
        OPEN.discard(what)


def dump(kube: Kube, folder: Path) -> None:
    """One file a kind, one a container and its predecessor, `pods.txt` as described, `events.txt` in order of time."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        _write(folder / f"{kind}.yaml", partial(kube.run, "get", kind, "--output", "yaml"))
    _write(folder / "pods.txt", lambda: kube.run("describe", "pods"))
    _write(folder / "events.txt", lambda: kube.run("get", "events", "--sort-by=.lastTimestamp", "--output", "wide"))
    _write(folder / "logs.txt", lambda: _logs(kube, folder))


def dump_bed(logs: Path, folder: Path) -> None:
    """The last lines of each part of the bed: what runs beside the cluster has no pod whose log could be had."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        (folder / log.name).write_text("".join(lines[-_LINES:]), encoding="utf-8")


def folder_of(root: Path, test: str) -> Path:
    """Below `root`, named after the test."""
    return root / re.sub(r"[^\w.-]+", "-", test.removeprefix("tests/cluster/")).strip("-")[:120]


def _logs(kube: Kube, folder: Path) -> str:
    """Writes the logs of all containers; the names of their files."""
    names = []
    for pod in kube.every("pods"):
        status = pod.get("status", {})
        for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            for previous in (False, True) if one.get("restartCount") else (False,):
                names.append(_log(kube, folder, pod, one["name"], previous=previous))
    return "\n".join(names) + "\n"


def _log(kube: Kube, folder: Path, pod: Document, container: str, *, previous: bool) -> str:
    name = f"{pod['metadata']['name']}.{container}{'.previous' if previous else ''}.log"
    options = [f"--tail={_LINES}", "--timestamps", *(["--previous"] if previous else [])]
    _write(folder / name, lambda: kube.run("logs", pod["metadata"]["name"], "--container", container, *options))
    return name


def _write(path: Path, make: Callable[[], str]) -> None:
    try:
        text = make()
    except KubectlFailed as fault:
        text = f"cannot be had: {fault}\n"
    path.write_text(text, encoding="utf-8")
