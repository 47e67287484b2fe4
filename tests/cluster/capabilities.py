"""What a cluster must have before any test makes sense, each with its name.

Invariant: what is missing is a failure that names it; no test is left out because of it.
"""

from __future__ import annotations

import json

from tests.cluster.kube import Document, Kube, KubectlFailed, condition

GATEWAY_CLASS = "envoy"
CRDS = {
    "KServe": ("inferenceservices.serving.kserve.io", "servingruntimes.serving.kserve.io"),
    "the Gateway API": ("gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io"),
    "Envoy Gateway": ("envoyproxies.gateway.envoyproxy.io",),
}
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_WEBHOOK_ASKED: Document = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "asked", "namespace": "default"},
    "spec": {"predictor": {"minReplicas": 2, "maxReplicas": 1, "model": {"modelFormat": {"name": "serinus"}}}},
}


def missing(kube: Kube) -> list[str]:
    """Names of what the cluster lacks; empty when it has everything."""
    try:
        crds = {one["metadata"]["name"] for one in kube.every("customresourcedefinitions")}
        classes = kube.every("storageclasses")
    except KubectlFailed as fault:
        return [f"an API server that answers ({fault})"]
    found = [f"{whose} (CRD {name})" for whose, names in CRDS.items() for name in names if name not in crds]
    if not any(one["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true" for one in classes):
        found.append("a default StorageClass")
    return found or [*_gateway_class(kube), *_webhooks(kube)]


def _gateway_class(kube: Kube) -> list[str]:
    fault = condition(kube.find("gatewayclass", GATEWAY_CLASS), "Accepted")
    return [f"the GatewayClass {GATEWAY_CLASS} of Envoy Gateway ({fault})"] if fault else []


def _webhooks(kube: Kube) -> list[str]:
    """KServe's refuse what no schema can: fewer replicas at most than at least."""
    name = _WEBHOOK_ASKED["metadata"]["name"]
    try:
        kube.run("create", "--dry-run=server", "--filename", "-", feed=json.dumps(_WEBHOOK_ASKED).encode())
    except KubectlFailed as refused:
        if "denied the request" in str(refused):
            return []
        return [f"KServe's webhooks ({refused})"]
    return [f"KServe's validating webhook (it took InferenceService {name}, which is wrong)"]
