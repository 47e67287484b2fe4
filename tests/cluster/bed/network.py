"""The node's network: loopback, and a bridge that stands for the node's interface.

Invariant: made in the network namespace of the bed, which has no way out; it goes when the namespace goes.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster.bed.places import DNS_ADDRESS, NODE_ADDRESS
from tests.cluster.bed.site import run

INTERFACE = "node0"
_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/ip_local_port_range": "32768 60999",
}


def make_network() -> None:
    """The kernel here has no dummy links; a bridge without ports does as well."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", INTERFACE, "type", "bridge")
    run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", INTERFACE)
    run("ip", "address", "add", f"{DNS_ADDRESS}/32", "dev", INTERFACE)
    run("ip", "link", "set", INTERFACE, "up")
    # Addresses of services are routed before they are translated.
    run("ip", "route", "add", "default", "dev", INTERFACE)
    for name, value in _SETTINGS.items():
        (Path("/proc/sys") / name).write_text(value, encoding="ascii")


def bridged_traffic_is_filtered() -> bool:
    """Whether iptables sees what stays on a bridge; without it, answers within a node would miss their translation."""
    path = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if path.exists():
        path.write_text("1", encoding="ascii")
    return path.exists()
