"""kubectl, as the tests use it: one namespace, documents in, documents out.

Invariant: a command that fails, or a wait that ends, says which and why; nothing waits without a limit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Document = dict[str, Any]
# None when it is so, else what is still in the way.
Probe = Callable[[], str | None]
CALL_SECONDS = 60.0
POLL_SECONDS = 0.5


class KubectlFailed(Exception):
    """A command of kubectl ended with a fault: the command and what it said."""


class Missing(Exception):
    """The cluster lacks something that the tests need, and its name."""


@dataclass(frozen=True)
class Kube:
    """A cluster (that of KUBECONFIG) seen from one namespace; cluster-wide when it is empty."""

    namespace: str = ""

    def within(self, namespace: str) -> Kube:
        """The same cluster, another namespace."""
        return replace(self, namespace=namespace)

    def run(self, *arguments: str, feed: bytes | None = None, seconds: float = CALL_SECONDS) -> str:
        """The output. Raises `KubectlFailed`."""
        return self._output(arguments, feed, seconds).decode(errors="replace")

    def _output(self, arguments: Sequence[str], feed: bytes | None, seconds: float) -> bytes:
        command = [_program(), *(["--namespace", self.namespace] if self.namespace else []), *arguments]
        try:
            done = subprocess.run(command, input=feed, capture_output=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as fault:
            raise KubectlFailed(f"{_shown(command)}: no answer in {seconds:.0f} s") from fault
        if done.returncode:
            raise KubectlFailed(f"{_shown(command)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def find(self, kind: str, name: str) -> Document | None:
        """One object, or None when there is none of this name."""
        text = self.run("get", kind, name, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str) -> Document:
        """One object. Raises `KubectlFailed` when there is none."""
        found: Document = json.loads(self.run("get", kind, name, "--output", "json"))
        return found

    def every(self, kind: str, selector: str = "") -> list[Document]:
        """Objects of a kind, by label when asked for."""
        chosen = ("--selector", selector) if selector else ()
        items: list[Document] = json.loads(self.run("get", kind, *chosen, "--output", "json"))["items"]
        return items

    def apply(self, source: Path | Iterable[Document]) -> None:
        """A folder or file as it is, or documents."""
        if isinstance(source, Path):
            self.run("apply", "--filename", str(source))
        else:
            self.run("apply", "--filename", "-", feed="\n---\n".join(map(json.dumps, source)).encode())

    def patch(self, kind: str, name: str, change: Document | Sequence[Document]) -> None:
        """A merge patch, or a list of JSON patch operations. Returns when the API server has stored it."""
        how = "merge" if isinstance(change, dict) else "json"
        self.run("patch", kind, name, "--type", how, "--patch", json.dumps(change))

    def scale(self, kind: str, name: str, replicas: int) -> None:
        """How many pods a workload should have."""
        self.run("scale", f"{kind}/{name}", f"--replicas={replicas}")

    def execute(self, pod: str, *command: str, feed: bytes | None = None, seconds: float = CALL_SECONDS) -> str:
        """The output of a command in a pod (`name`, or `kind/name`)."""
        stdin = ("--stdin",) if feed is not None else ()
        return self.run("exec", *stdin, pod, "--", *command, feed=feed, seconds=seconds)

    def read(self, pod: str, *command: str, seconds: float = 2 * CALL_SECONDS) -> bytes:
        """The same for what is no text."""
        return self._output(("exec", pod, "--", *command), None, seconds)

    def pods(self, selector: str) -> list[Document]:
        """Pods by label that are not on their way out."""
        return [one for one in self.every("pods", selector) if "deletionTimestamp" not in one["metadata"]]


def wait_until(what: str, probe: Probe, seconds: float, every: float = POLL_SECONDS) -> None:
    """Raises `AssertionError` with what was in the way last; a `Missing` of the probe ends the wait at once.

    A command that fails is in the way, too: an API server that is busy for a moment must not end the wait.
    """
    deadline = time.monotonic() + seconds
    while (reason := _reason(probe)) is not None:
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s: {reason}"
        time.sleep(every)


def _reason(probe: Probe) -> str | None:
    try:
        return probe()
    except KubectlFailed as fault:
        return str(fault)


def condition(document: Document | None, kind: str) -> str | None:
    """None when the condition is True, else what the object says of it."""
    if document is None:
        return "the object is not there"
    found = {one["type"]: one for one in document.get("status", {}).get("conditions", [])}
    if kind not in found:
        return f"no condition {kind} yet"
    one = found[kind]
    return None if one["status"] == "True" else f"{kind} is {one['status']}: {one.get('reason')} {one.get('message')}"


def troubles(pods: Iterable[Document]) -> list[str]:
    """What keeps pods from running. Raises `Missing` for an image that the cluster does not have."""
    found = []
    for pod in pods:
        status = pod.get("status", {})
        found += [
            f"{pod['metadata']['name']}: {one.get('reason')} {one.get('message')}"
            for one in status.get("conditions", [])
            if one["type"] == "PodScheduled" and one["status"] != "True"
        ]
        for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            found += _container_trouble(pod["metadata"]["name"], one)
    return found


def _container_trouble(pod: str, status: Document) -> list[str]:
    waiting = status.get("state", {}).get("waiting")
    if waiting is None or waiting.get("reason") in ("ContainerCreating", "PodInitializing"):
        return []
    if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
        raise Missing(f"the image {status['image']} ({waiting.get('message', waiting['reason'])})")
    return [f"{pod}/{status['name']}: {waiting.get('reason')} {waiting.get('message', '')}"]


def _program() -> str:
    found = shutil.which("kubectl")
    if found is None:
        raise Missing("kubectl")
    return found


def _shown(command: Sequence[str]) -> str:
    return f"kubectl {' '.join(command[1:])}"[:300]
