"""The objects around the first service's predictors: stores, the job that loads one, the collector, the runtime.

Invariant: every pod meets the `restricted` pod security standard, with a root file system that it cannot write.
"""

from __future__ import annotations

import json
from typing import Any

Document = dict[str, Any]

USER = 65532
PREDICTOR, OPERATOR, PIPELINE, REDIS = (
    "serinus/predictor:dev",
    "serinus/operator:dev",
    "serinus/pipeline:dev",
    "redis:7",
)
HOME = "/var/lib/serinus"
EVENT_LOG = f"{HOME}/events"
LOADER, COLLECTOR, COLLECTOR_PORT = "store", "collector", 8090
# Longer than a gateway takes to hear that a pod is going.
PAUSE_SECONDS = 10
_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Volumes of some drivers belong to root unless a pod asks for a group.
_POD = {"fsGroup": USER}
_TMP = {"name": "tmp", "emptyDir": {}}
_TMP_MOUNT = {"name": "tmp", "mountPath": "/tmp"}
_ENVIRONMENT = [{"name": "HOME", "value": "/tmp"}, {"name": "OMP_NUM_THREADS", "value": "1"}]


def claim(name: str, size: str) -> Document:
    """Of the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def store_loader(claim_name: str) -> Document:
    """Waits with the claim at `HOME`, for `kubectl exec -i store -- tar -xf - -C /var/lib/serinus`."""
    container = _container("store", PIPELINE, _resources("10m", "32Mi", "256Mi")) | {
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "home", "mountPath": HOME}],
    }
    spec = _pod([container], [_claimed("home", claim_name)]) | {"terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": LOADER, "labels": {"app": LOADER}}, "spec": spec}


def redis(name: str, options: tuple[str, ...]) -> list[Document]:
    """A Service and a StatefulSet of one pod that keeps its append-only file on a claim."""
    # One that still reads its file answers, too, but not with this.
    asked = {"exec": {"command": ["sh", "-c", "redis-cli ping | grep -q PONG"]}}
    arguments = ["--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data", "--save", "", "--appendonly", "yes"]
    container = _container("redis", REDIS, _resources("50m", "64Mi", "512Mi")) | {
        "command": ["redis-server"],
        "args": [*arguments, "--maxmemory", "400mb", "--maxmemory-policy", "noeviction", *options],
        "ports": [{"name": "redis", "containerPort": 6379}],
        "readinessProbe": asked | {"periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    # Not the first process of its container, so that one in there can kill it: faults are part of the tests.
    pod = _pod([container], []) | {"shareProcessNamespace": True}
    data = {key: value for key, value in claim("data", "1Gi").items() if key not in ("apiVersion", "kind")}
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        "volumeClaimTemplates": [data],
    }
    return [
        _service(name, "redis", 6379),
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec},
    ]


def job_of_features(problem: str, online: str, claim_name: str) -> Document:
    """`serinus features materialize` with the features on the claim, once Redis answers."""
    host = online.removeprefix("redis://").partition(":")[0]
    wait = _container("wait", REDIS, _resources("10m", "16Mi", "64Mi")) | {
        "command": ["sh", "-c", f"until redis-cli -h {host} ping | grep -q PONG; do sleep 1; done"],
    }
    work = _container("materialize", PIPELINE, _resources("100m", "256Mi", "1Gi")) | {
        "command": ["serinus", "features", "materialize", problem, "--online", online, "--json"],
        "env": [*_ENVIRONMENT, {"name": "SERINUS_HOME", "value": HOME}],
        "volumeMounts": [{"name": "home", "mountPath": HOME}, _TMP_MOUNT],
    }
    pod = _pod([work], [_claimed("home", claim_name), _TMP]) | {"initContainers": [wait], "restartPolicy": "OnFailure"}
    spec = {"backoffLimit": 4, "template": {"metadata": {"labels": {"app": "materialize-features"}}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "materialize-features"}, "spec": spec}


def collector(service: str, events: str) -> list[Document]:
    """Drains the event log of Redis to its own claim, and takes outcomes."""
    settings = {
        "service": service,
        "folder": EVENT_LOG,
        "events": events,
        "host": "0.0.0.0",
        "port": COLLECTOR_PORT,
        "accept_event_time": True,
    }
    container = _container(COLLECTOR, OPERATOR, _resources("50m", "128Mi", "512Mi")) | {
        "command": ["python", "-m", "serinus.wiring.collect"],
        "args": [json.dumps(settings)],
        "env": _ENVIRONMENT,
        "ports": [{"name": "http", "containerPort": COLLECTOR_PORT}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5},
        "volumeMounts": [{"name": "log", "mountPath": HOME}, _TMP_MOUNT],
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # one at a time drains
        "selector": {"matchLabels": {"app": COLLECTOR}},
        "template": {
            "metadata": {"labels": {"app": COLLECTOR}},
            "spec": _pod([container], [_claimed("log", "event-log"), _TMP]),
        },
    }
    return [
        claim("event-log", "1Gi"),
        _service(COLLECTOR, "http", COLLECTOR_PORT),
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": COLLECTOR}, "spec": spec},
    ]


def serving_runtime() -> Document:
    """The predictor's image. A revision says with which settings; probes ask for the model of its service."""
    ready = "/v2/models/{{index .Labels `serinus.dev/service`}}/ready"
    container = _container("kserve-container", PREDICTOR, _resources("100m", "256Mi", "768Mi")) | {
        "command": ["python", "-m", "serinus.wiring.serve"],
        "env": _ENVIRONMENT,
        # The first is REST; a name with grpc or h2c makes a port of HTTP/2.
        "ports": [{"name": "http1", "containerPort": 8080}, {"name": "grpc-h2c", "containerPort": 8081}],
        "startupProbe": _probe(ready, period=1, failures=120),
        "readinessProbe": _probe(ready, period=2, failures=3),
        "livenessProbe": _probe("/v2/health/live", period=10, failures=6),
        # The gateway stops sending while the pod still answers.
        "lifecycle": {"preStop": {"sleep": {"seconds": PAUSE_SECONDS}}},
        "volumeMounts": [_TMP_MOUNT],
    }
    spec = {
        "supportedModelFormats": [{"name": "serinus", "version": "2", "autoSelect": False}],
        "protocolVersions": ["v1", "v2"],
        "containers": [container],
        "volumes": [_TMP],
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "serinus"},
        "spec": spec,
    }


def _probe(path: str, *, period: int, failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": 8080},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _container(name: str, image: str, resources: Document) -> Document:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": _CONTAINER,
        "resources": resources,
    }


def _resources(cpu: str, memory: str, most: str) -> Document:
    """A limit of memory and none of processors, which would make slow requests out of idle ones."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}}


def _pod(containers: list[Document], volumes: list[Document]) -> Document:
    return {
        "automountServiceAccountToken": False,
        "securityContext": _POD,
        "containers": containers,
        **({"volumes": volumes} if volumes else {}),
    }


def _claimed(name: str, claim_name: str) -> Document:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim_name}}


def _service(name: str, port_name: str, port: int) -> Document:
    ports = [{"name": port_name, "port": port, "targetPort": port_name}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
