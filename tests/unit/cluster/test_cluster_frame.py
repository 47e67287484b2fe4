"""The frame of the cluster tests without a cluster: what is missing is named, waits end, a load counts what failed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import kube as kube_module
from tests.cluster.capabilities import missing
from tests.cluster.dump import dump, dump_bed, folder_of
from tests.cluster.kube import Kube, KubectlFailed, Missing, condition, troubles, wait_until
from tests.cluster.load import Ask, Plan, Reply, failed, loading, send_all

CRDS = (
    "inferenceservices.serving.kserve.io",
    "servingruntimes.serving.kserve.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "envoyproxies.gateway.envoyproxy.io",
)
ACCEPTED = {"status": {"conditions": [{"type": "Accepted", "status": "True"}]}}


class _Fake(Kube):
    """A cluster that answers from `answers`, by the beginning of the command."""

    answers: dict[str, Any]

    def run(self, *arguments: str, feed: bytes | None = None, seconds: float = 0) -> str:
        command = " ".join(arguments)
        for beginning, answer in self.answers.items():
            if command.startswith(beginning):
                if isinstance(answer, Exception):
                    raise answer
                return answer if isinstance(answer, str) else json.dumps(answer)
        raise KubectlFailed(f"{command}: no such thing")


def _fake(**changes: Any) -> _Fake:
    default = {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    answers = {
        "get customresourcedefinitions": {"items": [{"metadata": {"name": name}} for name in CRDS]},
        "get storageclasses": {"items": [default]},
        "get gatewayclass": ACCEPTED,
        "create --dry-run=server": KubectlFailed("admission webhook denied the request: MinReplicas"),
    }
    found = _Fake()
    object.__setattr__(found, "answers", answers | {key.replace("_", " "): value for key, value in changes.items()})
    return found


def test_a_cluster_with_everything_lacks_nothing() -> None:
    assert missing(_fake()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"get_customresourcedefinitions": KubectlFailed("refused")}, "an API server that answers"),
        ({"get_customresourcedefinitions": {"items": []}}, "KServe (CRD inferenceservices.serving.kserve.io)"),
        ({"get_storageclasses": {"items": [{"metadata": {}}]}}, "a default StorageClass"),
        ({"get_gatewayclass": ""}, "the GatewayClass envoy of Envoy Gateway"),
        ({"get_gatewayclass": {"status": {}}}, "no condition Accepted yet"),
    ],
)
def test_what_a_cluster_lacks_is_named(changes: dict[str, Any], named: str) -> None:
    assert named in "; ".join(missing(_fake(**changes)))


def test_webhooks_that_let_everything_pass_are_named() -> None:
    fake = _fake()
    fake.answers["create --dry-run=server"] = "created"
    assert "validating webhook" in missing(fake)[0]
    fake.answers["create --dry-run=server"] = KubectlFailed("connection refused")
    assert "connection refused" in missing(fake)[0]


def test_a_condition_says_why_it_is_not_true() -> None:
    assert condition(None, "Ready") == "the object is not there"
    assert condition({}, "Ready") == "no condition Ready yet"
    told = {"type": "Ready", "status": "False", "reason": "Loading", "message": "the model"}
    assert condition({"status": {"conditions": [told]}}, "Ready") == "Ready is False: Loading the model"
    assert condition({"status": {"conditions": [told | {"status": "True"}]}}, "Ready") is None


def _pod(**state: Any) -> dict[str, Any]:
    status = {"name": "c", "image": "serinus/predictor:dev", "state": state}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}}


def test_an_image_that_is_not_there_ends_the_wait_with_its_name() -> None:
    with pytest.raises(Missing, match="the image serinus/predictor:dev"):
        troubles([_pod(waiting={"reason": "ErrImagePull", "message": "not found"})])
    assert troubles([_pod(waiting={"reason": "CrashLoopBackOff"})]) == ["p/c: CrashLoopBackOff "]
    assert troubles([_pod(waiting={"reason": "ContainerCreating"}), _pod(running={})]) == []


def test_a_pod_that_finds_no_place_is_told() -> None:
    stuck = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}
    assert troubles([{"metadata": {"name": "p"}, "status": {"conditions": [stuck]}}]) == ["p: Unschedulable no memory"]


def test_a_wait_that_ends_says_what_was_in_the_way() -> None:
    left = iter(["one more", None])
    wait_until("it", lambda: next(left), 5, every=0)
    with pytest.raises(AssertionError, match="it: not within 0 s: still not"):
        wait_until("it", lambda: "still not", 0, every=0)


def test_without_kubectl_it_is_kubectl_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_module.shutil, "which", lambda _: None)
    with pytest.raises(Missing, match="kubectl"):
        Kube().run("get", "pods")


def test_a_dump_has_every_kind_and_every_container_and_survives_what_cannot_be_had(tmp_path: Path) -> None:
    fake = _fake()
    restarted = {"name": "c", "restartCount": 1}
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [restarted]}}
    fake.answers |= {"get pods --output json": {"items": [pod]}, "get ": "x", "describe pods": "y", "logs p": "said"}
    fake.answers["get jobs"] = KubectlFailed("no")
    dump(fake, tmp_path / "d")
    names = {one.name for one in (tmp_path / "d").iterdir()}
    assert {"inferenceservices.yaml", "httproutes.yaml", "events.txt", "pods.txt", "p.c.log"} <= names
    assert (tmp_path / "d/p.c.previous.log").read_text() == "said"
    assert folder_of(tmp_path, "tests/cluster/test_x.py::test_a[b c].call").name == "test_x.py-test_a-b-c-.call"


def test_a_dump_has_the_end_of_what_the_parts_of_the_bed_said(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "kserve-manager.log").write_text("".join(f"line {n}\n" for n in range(3_000)))
    dump_bed(logs, tmp_path / "d" / "bed")
    told = (tmp_path / "d" / "bed" / "kserve-manager.log").read_text()
    assert told.startswith("line 1000\n")
    assert told.endswith("line 2999\n")
    dump_bed(tmp_path / "none", tmp_path / "d" / "none")


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"][0]
        status = 503 if asked["entity"] == "7" else 200
        body = json.dumps({"predictions": [{"revision": self.headers["x-arm"], "flags": {"bucket": "ok"}}]}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


class _Listening(ThreadingHTTPServer):
    request_queue_size = 128  # forty callers at once; with the five of the base class a busy machine turns some away


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = _Listening(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _ask(number: int) -> Ask:
    return Ask("/v1/models/toy:predict", {"entity": str(number)}, {"x-arm": "blue" if number % 2 else "green"})


def test_a_load_sends_each_once_and_counts_what_failed(endpoint: str) -> None:
    replies = send_all(Plan(endpoint, _ask, rate=2_000, most=40))
    assert [one.number for one in replies] == list(range(40))
    assert [re.sub(r" .*", "", one) for one in failed(replies)] == ["7:"]
    assert failed(replies)[0].startswith("7: HTTP 503")
    assert all(one.revision == ("blue" if one.number % 2 else "green") for one in replies if not one.fault)
    assert replies[0].flags == {"bucket": "ok"}
    assert replies[7].flags == {}


def test_a_load_can_be_watched_and_stopped(endpoint: str) -> None:
    with loading(Plan(endpoint, _ask, rate=500, most=10_000)) as load:
        found = load.wait_for("a blue one", lambda one: one.revision == "blue", 10)
        assert load.wait_for("the first of all", lambda one: True, 10, since=0) is load.replies[0]
        assert found.number % 2
        replies = load.stop()
    assert 0 < len(replies) < 10_000


def test_a_wait_for_a_reply_ends_with_the_load(endpoint: str) -> None:
    def never(_: Reply) -> bool:
        return False

    with (
        loading(Plan(endpoint, _ask, rate=2_000, most=20)) as load,
        pytest.raises(AssertionError, match="has ended before"),
    ):
        load.wait_for("never", never, 10)


def test_nobody_there_is_a_failed_request() -> None:
    assert "ConnectionRefusedError" in failed(send_all(Plan("http://127.0.0.1:9", _ask, rate=100, most=1)))[0]
