"""Where the cluster's gateways answer a test.

Invariant: GATEWAY_ADDRESS (host:port) goes before what the Gateway says: not every cluster's addresses lead here.
"""

from __future__ import annotations

import os

from tests.cluster.dump import GATEWAYS
from tests.cluster.kube import Kube, condition

_OWNER = "gateway.envoyproxy.io/owning-gateway-name={},gateway.envoyproxy.io/owning-gateway-namespace={}"


def address(kube: Kube, name: str) -> str | None:
    """host:port of a Gateway's first listener, or None while it has none."""
    if named := os.environ.get("GATEWAY_ADDRESS"):
        return named
    gateway = kube.get("gateway", name)
    found = gateway.get("status", {}).get("addresses", [])
    if not found or condition(gateway, "Programmed") is not None:
        return None
    return f"{found[0]['value']}:{_port(kube, name, int(gateway['spec']['listeners'][0]['port']))}"


def _port(kube: Kube, name: str, port: int) -> int:
    """The listener's own, or the node's where the address is a node's."""
    services = kube.within(GATEWAYS).every("services", _OWNER.format(name, kube.namespace))
    for one in (one for service in services for one in service["spec"]["ports"]):
        if one["port"] == port and services[0]["spec"]["type"] == "NodePort":
            return int(one["nodePort"])
    return port
