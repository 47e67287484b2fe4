"""The first service on a cluster, and beside it the predictor embedded: the same bundles, the same feature rows.

Invariant: the cluster gets nothing but what the how-to's commands give it; what it serves was trained there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.cluster.gateway import address
from tests.cluster.how_to import Reader, blocks, reader
from tests.cluster.kube import Document, Kube, condition, troubles, wait_until
from tests.cluster.load import Ask
from tests.cluster.manifests import GATEWAY, NAMESPACE, SERVICE, bundle, by_version, committed, settings
from tests.cluster.trained import Trained, fetched, run_serinus
from tests.cluster.visits import PREDICT, Visit, recorded_visits
from tests.servers import free_port

READY_SECONDS = 240.0
VISITS = 40


@dataclass(frozen=True)
class FirstService:
    """Where it answers, the names of its revisions, visits to ask about, and the embedded answers by revision.

    `reader` has the manifests that were applied.
    """

    kube: Kube
    endpoint: str
    stable: str
    canary: str
    visits: list[Visit]
    embedded: Mapping[str, str]
    reader: Reader

    def embedded_answer(self, revision: str, asked: Ask) -> dict[str, Any]:
        """What the predictor on this machine says."""
        return post(self.embedded[revision], asked)


@contextmanager
def first_service(cluster: Kube, folder: Path) -> Iterator[FirstService]:
    """Trained there, applied and Ready, in the namespace of the how-to; `folder` is for copies on this machine."""
    kube = cluster.within(NAMESPACE)
    copy = reader(cluster, folder / "reader")
    for block in (blocks().apply, blocks().train, blocks().follow, blocks().wait):
        copy.run(block)
    trained = fetched(kube, folder / "home")
    revisions = [one for _, one in sorted(by_version(committed(copy.folder)).items())]
    stable, canary = (str(one["metadata"]["name"]) for one in revisions)
    with ExitStack() as stack:
        embedded = {one["metadata"]["name"]: stack.enter_context(_embedded(trained, one)) for one in revisions}
        wait_until("the first service is Ready", lambda: not_ready(kube), READY_SECONDS, every=1.0)
        visits = recorded_visits(trained.recording, VISITS)
        where = f"http://{address(kube, GATEWAY)}"
        found = FirstService(kube, where, stable, canary, visits, embedded, copy)
        wait_until("the gateway answers for both revisions", lambda: not_answering(found), 180.0)
        yield found


def not_ready(kube: Kube) -> str | None:
    """What still is in the way of everything that was applied."""
    found = {}
    kinds = {"jobs": "Complete", "inferenceservices": "Ready", "deployments": "Available", "gateways": "Programmed"}
    for kind, wanted in kinds.items():
        for one in kube.every(kind):
            if reason := condition(one, wanted):
                found[f"{kind} {one['metadata']['name']}"] = reason
    if reason := route_fault(kube.find("httproute", SERVICE)):
        found[f"httproute {SERVICE}"] = reason
    if not found:
        return None
    return "; ".join([f"{what}: {why}" for what, why in found.items()] + troubles(kube.every("pods")))


def route_fault(document: Document | None) -> str | None:
    """None once the gateway took the route as it is now, with all of its Services."""
    if document is None:
        return "the object is not there"
    parents = document.get("status", {}).get("parents", [])
    if not parents:
        return "no gateway has taken it"
    generation = document["metadata"]["generation"]
    if any(one["observedGeneration"] != generation for one in parents[0]["conditions"]):
        return "the gateway has not seen it as it is now"
    return condition({"status": parents[0]}, "Accepted") or condition({"status": parents[0]}, "ResolvedRefs")


def post(endpoint: str, asked: Ask) -> dict[str, Any]:
    """The prediction. Raises `HTTPError`, `URLError`."""
    body = json.dumps({"instances": [asked.instance]}).encode()
    headers = {"content-type": "application/json", **asked.headers}
    with urlopen(Request(endpoint + asked.path, body, headers), timeout=15) as answer:
        found: dict[str, Any] = json.load(answer)["predictions"][0]
    return found


def not_answering(service: FirstService) -> str | None:
    """None when each arm answers through the gateway."""
    for arm, revision in (("stable", service.stable), ("canary", service.canary)):
        try:
            answer = post(service.endpoint, Ask(PREDICT, service.visits[0].instance(), {"x-serinus-arm": arm}))
        except OSError as fault:
            return f"{arm}: {fault}"
        if answer["revision"] != revision:
            return f"{arm}: answered by {answer['revision']}"
    return None


@contextmanager
def _embedded(copy: Trained, revision: Document) -> Iterator[str]:
    """A predictor of this machine, over SQLite materialized by the same command."""
    online = copy.home / "online.db"
    if not online.exists():
        run_serinus(copy.home, "features", "materialize", SERVICE, "--online", str(online))
    port, name = free_port(), revision["metadata"]["name"]
    changes: dict[str, Any] = {
        "storage_uri": str(copy.bundle(bundle(revision))),
        "online": str(online),
        "events": str(copy.home / "events"),
    }
    changes |= {"host": "127.0.0.1", "writers": "", "http_port": port, "grpc_port": 0}
    document = json.dumps(settings(revision) | changes)
    with (copy.home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "serinus.wiring.serve", document], stdout=log, stderr=log)
        try:
            wait_until(f"the embedded {name} answers", lambda: _silent(port, process), 180.0)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(40)


def _silent(port: int, process: subprocess.Popen[bytes]) -> str | None:
    assert process.poll() is None, f"it ended with {process.returncode}"
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/models/{SERVICE}/ready", timeout=5):
            return None
    except OSError as fault:
        return str(fault)
