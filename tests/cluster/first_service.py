"""The first service on a cluster, and beside it the predictor embedded: the same bundles, the same feature rows.

Invariant: the cluster gets nothing but the folder `first/` and, before it, the files on its claim.
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

import yaml

from tests.cluster.first_manifests import FOLDER, GATEWAY, SERVICE, committed, rendered, settings
from tests.cluster.first_parts import HOME, LOADER
from tests.cluster.gateway import address
from tests.cluster.kube import Document, Kube, condition, troubles, wait_until
from tests.cluster.load import Ask
from tests.cluster.trained import Trained, archive, run_serinus, staged, trained
from tests.cluster.visits import PREDICT, Visit, recorded_visits
from tests.servers import free_port

READY_SECONDS = 240.0
VISITS = 40
JOB = "materialize-features"


@dataclass(frozen=True)
class FirstService:
    """Where it answers, the names of its revisions, visits to ask about, and the embedded answers by revision."""

    kube: Kube
    endpoint: str
    stable: str
    canary: str
    visits: list[Visit]
    embedded: Mapping[str, str]
    manifests: Path

    def embedded_answer(self, revision: str, asked: Ask) -> dict[str, Any]:
        """What the predictor on this machine says."""
        return post(self.embedded[revision], asked)


@contextmanager
def first_service(kube: Kube, folder: Path) -> Iterator[FirstService]:
    """Applied and Ready. `folder` is for what is staged."""
    source = trained()
    copy = staged(source, folder / "home")
    manifests = _manifests(source, folder / "first")
    _fill_store(kube, copy, manifests, folder)
    kube.apply(manifests)
    with ExitStack() as stack:
        names = _names(manifests)
        embedded = {name: stack.enter_context(_embedded(copy, number, name)) for number, name in names.items()}
        wait_until("the first service is Ready", lambda: not_ready(kube), READY_SECONDS, every=1.0)
        where = address(kube, GATEWAY)
        stable, canary = (name for _, name in sorted(names.items()))
        found = FirstService(
            kube, f"http://{where}", stable, canary, recorded_visits(source.recording, VISITS), embedded, manifests
        )
        wait_until("the gateway answers for both revisions", lambda: _not_answering(found), 180.0)
        yield found


def not_ready(kube: Kube) -> str | None:
    """What still is in the way of everything in the folder."""
    job = condition(kube.find("job", JOB), "Complete")
    found = {f"job {JOB}": job} if job else {}
    for kind, wanted in (("inferenceservices", "Ready"), ("deployments", "Available"), ("gateways", "Programmed")):
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


def _not_answering(service: FirstService) -> str | None:
    for arm, revision in (("stable", service.stable), ("canary", service.canary)):
        try:
            answer = post(service.endpoint, Ask(PREDICT, service.visits[0].instance(), {"x-serinus-arm": arm}))
        except OSError as fault:
            return f"{arm}: {fault}"
        if answer["revision"] != revision:
            return f"{arm}: answered by {answer['revision']}"
    return None


def _manifests(source: Trained, folder: Path) -> Path:
    """The committed folder, where it names the bundles that are there; else it is written for these."""
    if committed() == source.bundles:
        return FOLDER
    for path, text in rendered(source.bundles, folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def _names(manifests: Path) -> dict[int, str]:
    """Revisions by version."""
    documents = yaml.safe_load_all((manifests / "revisions.yaml").read_text(encoding="utf-8"))
    return {int(one["metadata"]["labels"]["serinus.dev/version"]): one["metadata"]["name"] for one in documents}


def _fill_store(kube: Kube, copy: Trained, manifests: Path, folder: Path) -> None:
    kube.apply(manifests / "store")

    def starting() -> str | None:
        pods = kube.every("pods", f"app={LOADER}")
        return (condition(pods[0], "Ready") if pods else "no pod") and f"{troubles(pods)}"

    wait_until("the store's pod is up", starting, READY_SECONDS)
    kube.execute(LOADER, "tar", "-xf", "-", "-C", HOME, feed=archive(copy, folder / "home.tar"), seconds=120)
    kube.run("delete", "pod", LOADER)


@contextmanager
def _embedded(copy: Trained, version: int, revision: str) -> Iterator[str]:
    """A predictor of this machine, over SQLite materialized by the same command."""
    online = copy.home / "online.db"
    if not online.exists():
        run_serinus(copy.home, "features", "materialize", SERVICE, "--online", str(online))
    port = free_port()
    changes: dict[str, Any] = {
        "storage_uri": str(copy.bundle(version)),
        "online": str(online),
        "events": str(copy.home / "events"),
    }
    changes |= {"host": "127.0.0.1", "writers": "", "http_port": port, "grpc_port": 0}
    document = json.dumps(settings(version, revision) | changes)
    with (copy.home / f"{revision}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "serinus.wiring.serve", document], stdout=log, stderr=log)
        try:
            wait_until(f"the embedded {revision} answers", lambda: _silent(port, process), 180.0)
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
