"""The node: containerd with runc and the bridge CNI plugin, the kubelet, kube-proxy and CoreDNS.

Invariant: pods get their addresses, mounts and control groups inside the bed's namespaces and below its control group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster.bed import probes
from tests.cluster.bed.network import bridged_traffic_is_filtered
from tests.cluster.bed.parts import Component, Part, Task, waiting
from tests.cluster.bed.places import DNS_ADDRESS, NODE, NODE_ADDRESS, POD_NETWORK
from tests.cluster.bed.site import Site, run, write

# In the bed's own /run: shims use this path whatever is configured.
SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
_CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def node(site: Site, images: Mapping[str, Path]) -> list[Part]:
    """In the order of their needs; `images` are archives by the names that pods use."""
    return [
        _containerd(site),
        *(Task(image_task(name), _import(path), needs=("containerd",)) for name, path in images.items()),
        _kubelet(site),
        _dns_rights(site),
        waiting("node-ready", probes.condition(site.kubectl, f"node/{NODE}", "Ready"), ("kubelet",)),
        _kube_proxy(site),
        _coredns(site),
    ]


def image_task(reference: str) -> str:
    """The name of the part that imports an image."""
    return f"image-{reference.split('/')[-1].split(':')[0]}"


def _containerd(site: Site) -> Component:
    networks = site.places.run / "cni"
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    document = {"cniVersion": "0.4.0", "name": "bed", "plugins": [bridge]}
    networks.mkdir(parents=True, exist_ok=True)
    (networks / "10-bed.conflist").write_text(json.dumps(document), encoding="utf-8")
    config = site.places.run / "containerd.toml"
    config.write_text(_CONTAINERD.format(socket=SOCKET, pause=PAUSE_IMAGE, networks=networks), encoding="utf-8")
    return Component(
        "containerd",
        ("containerd", "--config", str(config)),
        probes.succeeds("ctr", "--address", SOCKET, "version"),
    )


def importing(archive: Path) -> tuple[str, ...]:
    """The command, within the bed, that gives the node the image of an archive."""
    return ("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", str(archive))


def _import(archive: Path) -> Callable[[], None]:
    def task() -> None:
        run(*importing(archive))

    return task


def _kubelet(site: Site) -> Component:
    pair = site.authority.sign("kubelet-serving", NODE, hosts=(NODE, NODE_ADDRESS))
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(site.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pair.certificate),
        "tlsPrivateKeyFile": str(pair.key),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{site.places.control_group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "registerNode": True,
        "shutdownGracePeriod": "0s",
        "syncFrequency": "10s",
    }
    path = write(site.places.run / "kubelet.yaml", config)
    return Component(
        "kubelet",
        (
            site.program("kubelet"),
            f"--config={path}",
            f"--kubeconfig={site.identity(f'system:node:{NODE}', ('system:nodes',))}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            "--root-dir=/var/lib/kubelet",
        ),
        probes.answers("http://127.0.0.1:10248/healthz"),
        needs=("kube-apiserver", "containerd"),
    )


def _kube_proxy(site: Site) -> Component:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": site.identity("system:kube-proxy")},
        "hostnameOverride": NODE,
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "iptables": {"masqueradeAll": not bridged_traffic_is_filtered(), "minSyncPeriod": "0s"},
        # These are settings of the whole kernel, not of a network namespace.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    path = write(site.places.run / "kube-proxy.yaml", config)
    return Component(
        "kube-proxy",
        (site.program("kube-proxy"), f"--config={path}"),
        probes.answers("http://127.0.0.1:10256/healthz"),
        needs=("node-ready",),
    )


def _coredns(site: Site) -> Component:
    corefile = site.places.run / "Corefile"
    corefile.write_text(
        f""".:53 {{
    bind {DNS_ADDRESS}
    errors
    health 127.0.0.1:8089
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {site.identity("system:coredns")}
    }}
    cache 5
}}
""",
        encoding="utf-8",
    )
    return Component(
        "coredns",
        (site.program("coredns"), "-conf", str(corefile)),
        probes.answers("http://127.0.0.1:8181/ready"),
        needs=("dns-rights",),
    )


def _dns_rights(site: Site) -> Task:
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return Task("dns-rights", lambda: site.apply(role_for("system:coredns", rules)), needs=("kube-apiserver",))


def role_for(user: str, rules: list[dict[str, list[str]]]) -> list[dict[str, object]]:
    """A cluster role of a user's own, bound to it."""
    group = "rbac.authorization.k8s.io"
    version = f"{group}/v1"
    subject = {"apiGroup": group, "kind": "User", "name": user}
    role = {"apiGroup": group, "kind": "ClusterRole", "name": user}
    return [
        {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": user},
            "roleRef": role,
            "subjects": [subject],
        },
    ]
