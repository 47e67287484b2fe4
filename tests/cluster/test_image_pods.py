"""Each image starts as pods run it: the `restricted` standard, a root file system that nobody writes, its own user."""

from __future__ import annotations

import pytest

from tests.cluster.first_parts import OPERATOR, PIPELINE, PREDICTOR
from tests.cluster.kube import Document, Kube, troubles, wait_until

pytestmark = pytest.mark.cluster

START_SECONDS = 120.0
# Neither says who runs it: a node refuses an image whose user is root, or has a name only.
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize(
    ("image", "arguments", "code", "said"),
    [
        (PREDICTOR, ["{}"], 2, "settings are not valid"),
        (OPERATOR, ["{}"], 2, "settings are not valid"),
        (PIPELINE, ["problem", "check", "retail"], 0, "card and contract are valid"),
    ],
    ids=["predictor", "operator", "pipeline"],
)
def test_an_image_starts_as_a_restricted_pod(
    namespace: Kube, image: str, arguments: list[str], code: int, said: str
) -> None:
    ended = run_pod(namespace, image, {"args": arguments})
    log = namespace.run("logs", "once")
    assert (ended["exitCode"], said in log) == (code, True), log


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        (PREDICTOR, "serinus.serving.kserve_server, serinus.features.redis_store, serinus.evidence.redis_streams"),
        (OPERATOR, "serinus.wiring.collect, serinus.evidence.reduce, serinus.core.stats.judge, kubernetes.client"),
        (PIPELINE, "pipelines.training, serinus.wiring.serve, serinus.registry.registry, serinus.training.train"),
    ],
    ids=["predictor", "operator", "pipeline"],
)
def test_the_user_writes_to_tmp_alone(namespace: Kube, image: str, modules: str) -> None:
    """And what its processes need can be imported without writing anywhere else."""
    tried = f"import sys; sys.argv = sys.argv[:1]; import os, pathlib, {modules}; pathlib.Path('/tmp/a').touch(); "
    tried += "print(os.getuid(), os.access('/app', os.W_OK), os.access('/opt/serinus', os.W_OK))"
    ended = run_pod(namespace, image, {"command": ["python", "-c", tried]})
    log = namespace.run("logs", "once")
    assert ended["exitCode"] == 0, log
    assert log.splitlines()[-1] == "10001 False False"


def run_pod(kube: Kube, image: str, extra: Document) -> Document:
    """How the one container of a pod `once` ended."""
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
    kube.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": spec}])
    ended: list[Document] = []

    def running() -> str | None:
        pod = kube.get("pod", "once")
        (status,) = pod["status"].get("containerStatuses", [{}])
        ended.extend([status["state"]["terminated"]] if "terminated" in status.get("state", {}) else [])
        return None if ended else f"{pod['status']['phase']} {troubles([pod])}"

    wait_until(f"{image} has ended", running, START_SECONDS)
    return ended[0]
