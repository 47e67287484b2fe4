"""The process that keeps a cluster: it starts the parts inside the bed's namespaces, watches them, and writes down how
each is.

Invariant: it runs below process 1 of a PID namespace, so that its end, or the end of process 1, ends every process,
mount and link of the cluster.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.cluster.bed.certificates import Authority
from tests.cluster.bed.control_groups import join
from tests.cluster.bed.control_plane import control_plane
from tests.cluster.bed.gateway import gateway
from tests.cluster.bed.graph import Graph, PartStatus
from tests.cluster.bed.kserve import kserve
from tests.cluster.bed.network import make_network
from tests.cluster.bed.node import node
from tests.cluster.bed.parts import Part, PartFailed, needed
from tests.cluster.bed.places import BOUND, EMPTY, Places
from tests.cluster.bed.plan import Plan
from tests.cluster.bed.site import Site, run
from tests.cluster.bed.storage import storage

_LOOK_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Keeps the cluster in the folder `arguments[0]` until SIGTERM, then stops the parts in order; `down` kills."""
    folder = Path(arguments[0])
    plan = Plan.read(folder)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    join(plan.places.control_group)
    _mounts(plan.places)
    make_network()
    graph = Graph(needed(_parts(plan), plan.wanted), plan.places.logs, lambda status: _write(plan.places, status))
    try:
        graph.start()
    except PartFailed as fault:
        sys.stderr.write(f"{fault}\n")
    while not stop.wait(_LOOK_SECONDS):
        graph.look()
    graph.stop()
    return 0


def _parts(plan: Plan) -> list[Part]:
    site = Site(plan.places, plan.programs, Authority(plan.places.pki))
    return [
        *control_plane(site),
        *node(site, plan.images),
        *storage(site, plan.helper_image),
        *kserve(site),
        *gateway(site, plan.envoy_image),
    ]


def _mounts(places: Places) -> None:
    run("mount", "--make-rshared", "/")
    for path, name in BOUND.items():
        own = places.run / name
        own.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(own), path)
    for path in EMPTY:
        run("mount", "-t", "tmpfs", "tmpfs", path)


def _write(places: Places, status: Sequence[PartStatus]) -> None:
    aside = places.status.with_suffix(".tmp")
    aside.write_text(json.dumps([asdict(one) for one in status]), encoding="utf-8")
    aside.replace(places.status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
