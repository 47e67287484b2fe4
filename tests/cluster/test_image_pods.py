"""Each image starts as pods run it: the `restricted` standard, a root file system that nobody writes, its own user."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.cluster.kube import Document, Kube, troubles, wait_until
from tests.cluster.manifests import OPERATOR, PIPELINE, PREDICTOR

pytestmark = pytest.mark.cluster

START_SECONDS = 120.0
# Neither here nor in the pod does it say who runs it: a node refuses an image whose user is root, or only a name.
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Expected:
    """What an image's own process does with `arguments`, and modules that must be importable there."""

    image: str
    arguments: tuple[str, ...]
    code: int
    said: str
    modules: str


EXPECTED = [
    Expected(
        PREDICTOR,
        ("{}",),
        2,
        "the settings of this process are not valid",
        "serinus.serving.kserve_server, serinus.features.redis_store, serinus.evidence.redis_streams, lightgbm",
    ),
    Expected(
        OPERATOR,
        ("{}",),
        2,
        "the settings of this process are not valid",
        "serinus.wiring.collect, serinus.evidence.reduce, serinus.core.stats.judge, kubernetes.client",
    ),
    Expected(
        PIPELINE,
        ("problem", "check", "retail"),
        0,
        "card and contract are valid",
        "pipelines.training, serinus.wiring.serve, serinus.registry.registry, serinus.training.train",
    ),
]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda one: one.image.partition(":")[0].rpartition("/")[2])
def test_an_image_starts_as_a_restricted_pod(namespace: Kube, expected: Expected) -> None:
    """Its process does its work, and its user writes to /tmp alone."""
    # KServe reads the command line when it is imported.
    tried = f"import os, pathlib, sys; sys.argv = sys.argv[:1]; import {expected.modules}; "
    tried += "pathlib.Path('/tmp/a').touch(); "
    tried += "print(os.getuid(), os.access('/app', os.W_OK), os.access('/opt/serinus', os.W_OK))"
    apply_pod(namespace, "start", expected.image, {"args": list(expected.arguments)})
    apply_pod(namespace, "imports", expected.image, {"command": ["python", "-c", tried]})
    started, imported = ended(namespace, "start"), ended(namespace, "imports")
    log = namespace.run("logs", "start")
    assert (started, expected.said in log) == (expected.code, True), log
    log = namespace.run("logs", "imports")
    assert (imported, log.splitlines()[-1:]) == (0, ["65532 False False"]), log


def apply_pod(kube: Kube, name: str, image: str, extra: Document) -> None:
    """One container, run once."""
    container = {
        "name": "once",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "containers": [container | extra],
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    kube.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}])


def ended(kube: Kube, name: str) -> int:
    """The exit code of the pod's container."""
    codes: list[int] = []

    def running() -> str | None:
        pod = kube.get("pod", name)
        (status,) = pod["status"].get("containerStatuses", [{}])
        if "terminated" in status.get("state", {}):
            codes.append(status["state"]["terminated"]["exitCode"])
            return None
        return f"{pod['status']['phase']} {troubles([pod])}"

    wait_until(f"pod {name} has ended", running, START_SECONDS)
    return codes[0]
