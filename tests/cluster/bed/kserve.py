"""KServe's controller manager with its webhooks, from the sources of its module.

Invariant: it runs beside the cluster, but as the service account and with the rights of its own manifests; the objects
applied are those that it is released with, but for where its webhooks are found.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tests.cluster.bed import probes
from tests.cluster.bed.certificates import Authority
from tests.cluster.bed.parts import Component, Part, Probe, Task
from tests.cluster.bed.programs import KSERVE, module_folder
from tests.cluster.bed.site import Site, crds, documents

NAMESPACE = "kserve"
_ACCOUNT = "kserve-controller-manager"
_WEBHOOKS = "https://127.0.0.1:9443"
_RIGHTS = ("service_account", "role", "role_binding", "leader_election_role", "leader_election_role_binding")
# Standard mode with the Gateway API, instead of Knative.
_SETTINGS = {
    "deploy": {"defaultDeploymentMode": "Standard"},
    "ingress": {
        "enableGatewayApi": True,
        "kserveIngressGateway": "kserve/kserve-ingress-gateway",
        "ingressGateway": "knative-serving/knative-ingress-gateway",
        "ingressDomain": "example.com",
        "domainTemplate": "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}",
        "urlScheme": "http",
        "disableIstioVirtualHost": True,
    },
}


def kserve(site: Site) -> list[Part]:
    """CRDs and rights, the manager, and then its webhooks: until it answers them nothing of KServe's can be applied."""
    config = module_folder(*KSERVE) / "config"
    full = config / "crd" / "full"
    return [
        Task("kserve-crds", lambda: crds(site, full, full / "clusterstoragecontainer"), needs=("kube-apiserver",)),
        Task("kserve-rights", lambda: _rights(site, config), needs=("kube-apiserver",)),
        _manager(site),
        Task("kserve-webhooks", lambda: _webhooks(site, config), needs=("kserve-manager",)),
    ]


def _rights(site: Site, config: Path) -> None:
    site.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    rights = documents(*(config / "rbac" / f"{name}.yaml" for name in _RIGHTS))
    for one in rights:
        for subject in one.get("subjects", []):
            subject["namespace"] = NAMESPACE
    (settings,) = documents(config / "configmap" / "inferenceservice.yaml")
    settings["data"].pop("_example", None)
    settings["data"] |= {key: json.dumps(value) for key, value in _SETTINGS.items()}
    settings["metadata"]["namespace"] = NAMESPACE
    site.apply([*rights, settings], namespace=NAMESPACE)
    site.sign_in(NAMESPACE, _ACCOUNT)


def _manager(site: Site) -> Component:
    folder = site.places.run / "kserve"
    serving = folder / "k8s-webhook-server" / "serving-certs"
    serving.mkdir(parents=True, exist_ok=True)
    pair = site.authority.sign("kserve-webhooks", "kserve-webhooks", hosts=("127.0.0.1",))
    (serving / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (serving / "tls.key").write_bytes(pair.key.read_bytes())
    return Component(
        "kserve-manager",
        (site.program("kserve"), "--metrics-addr=127.0.0.1:18080", "--health-probe-addr=127.0.0.1:18081"),
        _both(probes.answers("http://127.0.0.1:18081/readyz"), probes.listens("127.0.0.1", 9443)),
        needs=("kserve-crds", "kserve-rights", "gateway-crds"),
        environment={
            "KUBECONFIG": str(site.account(NAMESPACE, _ACCOUNT)),
            "POD_NAMESPACE": NAMESPACE,
            "TMPDIR": str(folder),  # where it looks for its certificate
        },
    )


def _both(first: Probe, second: Probe) -> Probe:
    return lambda: first() or second()


def _webhooks(site: Site, config: Path) -> None:
    found = documents(config / "webhook" / "manifests.yaml")
    for one in (hook for document in found for hook in document["webhooks"]):
        one["clientConfig"] = _found_at(one["clientConfig"]["service"]["path"], site.authority)
    site.apply(found)
    # Needs the webhooks: the containers that fetch models by scheme.
    site.apply(documents(config / "storagecontainers" / "default.yaml"))


def _found_at(path: str, authority: Authority) -> dict[str, Any]:
    bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
    return {"url": f"{_WEBHOOKS}{path}", "caBundle": bundle}
