"""The Gateway API and Envoy Gateway by its own chart, with a real Envoy as data plane.

Invariant: the chart is installed as it is; its values and one EnvoyProxy are all that is the bed's.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.bed.parts import Part, Task
from tests.cluster.bed.programs import ENVOY_GATEWAY, GATEWAY_API, module_folder, module_version
from tests.cluster.bed.site import Site, crds, run

NAMESPACE = "envoy-gateway-system"
CLASS = "envoy"
_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": CLASS},
    "spec": {
        "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
        "parametersRef": {
            "group": "gateway.envoyproxy.io",
            "kind": "EnvoyProxy",
            "name": "bed",
            "namespace": NAMESPACE,
        },
    },
}


def gateway(site: Site, envoy_image: str, image_tasks: tuple[str, ...]) -> list[Part]:
    """CRDs of both, the chart, and a GatewayClass `envoy`."""
    needs = ("gateway-crds", "kube-proxy", "coredns", "kube-scheduler", "kube-controller-manager", *image_tasks)
    return [
        Task("gateway-crds", lambda: _crds(site), needs=("kube-apiserver",)),
        Task("envoy-gateway", lambda: _install(site, envoy_image), needs=needs),
    ]


def gateway_image() -> str:
    """As the chart names it."""
    return f"docker.io/envoyproxy/gateway:{module_version(*ENVOY_GATEWAY)}"


def _crds(site: Site) -> None:
    api = module_folder(*GATEWAY_API) / "config" / "crd" / "standard"
    crds(site, api, _chart_sources() / "charts" / "crds" / "crds" / "generated")


def _chart_sources() -> Path:
    return module_folder(*ENVOY_GATEWAY) / "charts" / "gateway-helm"


def _install(site: Site, envoy_image: str) -> None:
    chart = site.places.run / "charts" / "gateway-helm"
    shutil.copytree(_chart_sources(), chart, copy_function=shutil.copyfile, dirs_exist_ok=True)
    values = (chart / "values.tmpl.yaml").read_text(encoding="utf-8")
    values = values.replace("${GatewayImage}", gateway_image()).replace("${GatewayImagePullPolicy}", "IfNotPresent")
    (chart / "values.yaml").write_text(values, encoding="utf-8")
    run(
        site.program("helm"),
        *("upgrade", "--install", "eg", str(chart), "--namespace", NAMESPACE, "--create-namespace"),
        *("--skip-crds", "--wait", "--timeout", "120s"),
        *("--set", "deployment.envoyGateway.resources.requests.cpu=10m"),
        environment=os.environ
        | {
            "KUBECONFIG": str(site.places.kubeconfig),
            "HELM_CACHE_HOME": str(site.places.run / "helm"),
            "HELM_CONFIG_HOME": str(site.places.run / "helm"),
            "HELM_DATA_HOME": str(site.places.run / "helm"),
        },
    )
    site.apply([_proxy(envoy_image), _CLASS])


def _proxy(image: str) -> dict[str, object]:
    """A cluster address is all that tests need, and no load balancer is here to give another."""
    envoy = {"envoyService": {"type": "ClusterIP"}, "envoyDeployment": {"container": {"image": image}}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": {"name": "bed", "namespace": NAMESPACE},
        "spec": {"provider": {"type": "Kubernetes", "kubernetes": envoy}},
    }
