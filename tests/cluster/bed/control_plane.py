"""etcd, the API server, the controller manager and the scheduler.

Invariant: every client of the API server is somebody: RBAC and the Node authorizer decide what each may do.
"""

from __future__ import annotations

from tests.cluster.bed import probes
from tests.cluster.bed.certificates import signing_key
from tests.cluster.bed.parts import Component
from tests.cluster.bed.places import (
    API_SERVER,
    API_SERVICE_ADDRESS,
    NODE,
    NODE_ADDRESS,
    POD_NETWORK,
    SERVICE_NETWORK,
)
from tests.cluster.bed.site import Site

_ETCD = "http://127.0.0.1:2379"
_ISSUER = "https://kubernetes.default.svc.cluster.local"


def control_plane(site: Site) -> list[Component]:
    """In the order of their needs."""
    site.authority.kubeconfig(site.places.kubeconfig, "administrator", ("system:masters",))
    return [_etcd(site), _api_server(site), _controller_manager(site), _scheduler(site)]


def _etcd(site: Site) -> Component:
    return Component(
        "etcd",
        (
            site.program("etcd"),
            f"--data-dir={site.places.run / 'etcd'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # nothing of a test cluster outlives it
            "--log-level=warn",
        ),
        probes.answers(f"{_ETCD}/health"),
    )


def _api_server(site: Site) -> Component:
    authority, pki = site.authority, site.places.pki
    hosts = (NODE_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1", "kubernetes", "kubernetes.default.svc", NODE)
    serving = authority.sign("kube-apiserver", "kube-apiserver", hosts=hosts)
    to_kubelet = authority.sign("kube-apiserver-to-kubelet", "kube-apiserver-to-kubelet", ("system:masters",))
    tokens = signing_key(pki)
    probing = authority.sign("probe", "probe", ("system:masters",))
    return Component(
        "kube-apiserver",
        (
            site.program("kube-apiserver"),
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--bind-address={NODE_ADDRESS}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={authority.certificate}",
            f"--kubelet-certificate-authority={authority.certificate}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",  # nobody here resolves a node's name
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={tokens.certificate}",
            f"--service-account-signing-key-file={tokens.key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        ),
        probes.answers(f"{API_SERVER}/readyz", authority=authority.certificate, user=probing),
        needs=("etcd",),
    )


def _controller_manager(site: Site) -> Component:
    config = site.identity("system:kube-controller-manager")
    return Component(
        "kube-controller-manager",
        (
            site.program("kube-controller-manager"),
            *_serving(site, "kube-controller-manager", 10257, config),
            f"--root-ca-file={site.authority.certificate}",
            f"--service-account-private-key-file={site.places.pki / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            "--controllers=*",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={POD_NETWORK}",
            "--node-cidr-mask-size=24",
        ),
        probes.answers("https://127.0.0.1:10257/healthz", authority=site.authority.certificate),
        needs=("kube-apiserver",),
    )


def _scheduler(site: Site) -> Component:
    config = site.identity("system:kube-scheduler")
    return Component(
        "kube-scheduler",
        (site.program("kube-scheduler"), *_serving(site, "kube-scheduler", 10259, config)),
        probes.answers("https://127.0.0.1:10259/healthz", authority=site.authority.certificate),
        needs=("kube-apiserver",),
    )


def _serving(site: Site, name: str, port: int, config: str) -> tuple[str, ...]:
    pair = site.authority.sign(f"{name}-serving", name, hosts=("127.0.0.1",))
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--tls-cert-file={pair.certificate}",
        f"--tls-private-key-file={pair.key}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--profiling=false",
    )
