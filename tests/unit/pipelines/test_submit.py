"""Submission against a fake server that answers with the published models of kfp_server_api.

What it shows: the protocol as published. What it does not show: a real backend's behaviour.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import kfp_server_api as api
import pytest

from pipelines.submit import KfpRuns, Submission, follow, submit_and_follow
from serinus.core.errors import DataError, NotFound, Unavailable

API = "/apis/v2beta1"
SERIALIZER = api.ApiClient()


@dataclass
class Backend:
    """What the fake server knows; `script` gives the run's states poll by poll, the last one stays."""

    script: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    tasks: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    runs: dict[str, Any] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorization: str = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """The model that the published API gives for a request, or None for 404."""
        wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"] if "filter" in query else ""
        if path == f"{API}/experiments":
            return self._experiments(method, wanted, body)
        if path == f"{API}/runs" and method == "GET":
            found = [run for run in self.runs.values() if run.display_name == wanted]
            return api.V2beta1ListRunsResponse(runs=found, total_size=len(found))
        if path == f"{API}/runs":
            return self._create(body)
        match = re.fullmatch(rf"{API}/runs/([^:/]+)(:terminate)?", path)
        if match is None or match[1] not in self.runs:
            return None
        if match[2]:
            self.script = ["CANCELING", "CANCELED"]
            return {}
        return self._poll(self.runs[match[1]])

    def _experiments(self, method: str, wanted: str, body: Any) -> Any:
        if method == "POST":
            self.experiments[body["display_name"]] = f"e{len(self.experiments)}"
            wanted = body["display_name"]
            return api.V2beta1Experiment(experiment_id=self.experiments[wanted], display_name=wanted)
        known = [
            api.V2beta1Experiment(experiment_id=i, display_name=n) for n, i in self.experiments.items() if n == wanted
        ]
        return api.V2beta1ListExperimentsResponse(experiments=known, total_size=len(known))

    def _create(self, body: Any) -> Any:
        run = api.V2beta1Run(run_id=f"r{len(self.runs)}", display_name=body["display_name"], state="PENDING")
        run.pipeline_spec, run.runtime_config = (
            body["pipeline_spec"],
            api.V2beta1RuntimeConfig(**body["runtime_config"]),
        )
        self.runs[run.run_id] = run
        return run

    def _poll(self, run: Any) -> Any:
        run.state = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        details = [api.V2beta1PipelineTaskDetail(**task) for task in self.tasks]
        run.run_details = api.V2beta1RunDetails(task_details=details)
        return run


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def endpoint(backend: Backend) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlparse(self.path)
            backend.requests.append(f"{self.command} {url.path}")
            backend.authorization = self.headers.get("authorization", "")
            model = backend.answer(self.command, url.path, parse_qs(url.query), body) if backend.status == 200 else None
            status = backend.status if backend.status != 200 else 404 if model is None else 200
            payload = json.dumps(SERIALIZER.sanitize_for_serialization(model)).encode() if model is not None else b"{}"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = _serve  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _submission(endpoint: str, **changes: Any) -> Submission:
    package = Path(__file__).parents[3] / "pipelines/compiled/retail-training.yaml"
    values = {"package": package, "arguments": {"problem": "retail", "register": "chosen"}, "endpoint": endpoint}
    return Submission(**{**values, "run_name": "retail-1", "experiment": "retail", **changes})


def _no_sleep(_: float) -> None:
    return


def test_a_run_is_submitted_and_followed_to_its_end(endpoint: str, backend: Backend) -> None:
    backend.tasks = [
        {"display_name": "prepare", "state": "SUCCEEDED"},
        {"display_name": "prepare-driver", "state": "SUCCEEDED"},
    ]
    lines: list[str] = []
    ended = submit_and_follow(_submission(endpoint), wait=True, on_event=lines.append, sleep=_no_sleep)
    assert (ended.run_id, ended.state) == ("r0", "SUCCEEDED")
    assert lines == [
        f"submitted retail-1: {endpoint}/#/runs/details/r0",
        "prepare: succeeded", "run: pending", "run: running", "run: succeeded",
    ]  # fmt: skip
    sent = backend.runs["r0"]
    assert sent.runtime_config.parameters == {"problem": "retail", "register": "chosen"}
    assert sent.pipeline_spec["pipeline_spec"]["pipelineInfo"]["name"] == "retail-training"
    assert "kubernetes" in sent.pipeline_spec["platform_spec"]["platforms"]


def test_a_second_try_finds_the_run_of_the_first(endpoint: str, backend: Backend) -> None:
    runs = KfpRuns(endpoint)
    assert runs.create(_submission(endpoint)) == runs.create(_submission(endpoint)) == "r0"
    assert runs.create(_submission(endpoint, run_name="retail-2")) == "r1"
    assert len(backend.experiments) == 1


def test_a_failed_run_names_its_tasks(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING", "FAILED"]
    backend.tasks = [{"display_name": "gates", "state": "FAILED"}, {"display_name": "train", "state": "SUCCEEDED"}]
    ended = submit_and_follow(_submission(endpoint), wait=True, on_event=lambda _: None, sleep=_no_sleep)
    assert (ended.state, ended.failed_tasks) == ("FAILED", ("gates",))


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_following_ends_on_states_that_kfps_own_client_waits_on_for_ever(
    endpoint: str, backend: Backend, state: str
) -> None:
    backend.script = ["RUNNING", state]
    runs = KfpRuns(endpoint)
    assert follow(runs, runs.create(_submission(endpoint)), on_event=lambda _: None, sleep=_no_sleep).state == state


def test_ctrl_c_cancels_the_run_and_waits_for_it(endpoint: str, backend: Backend) -> None:
    backend.script = ["RUNNING"]

    def interrupted() -> Callable[[float], None]:
        calls = iter([KeyboardInterrupt])

        def sleep(_: float) -> None:
            for fault in calls:
                raise fault

        return sleep

    with pytest.raises(KeyboardInterrupt):
        submit_and_follow(_submission(endpoint), wait=True, on_event=lambda _: None, sleep=interrupted())
    assert f"POST {API}/runs/r0:terminate" in backend.requests
    assert backend.runs["r0"].state == "CANCELED"


def test_without_waiting_the_run_is_left_alone(endpoint: str, backend: Backend) -> None:
    ended = submit_and_follow(_submission(endpoint), wait=False, on_event=lambda _: None)
    assert ended.state == "SUBMITTED"
    assert not [line for line in backend.requests if line.startswith(f"GET {API}/runs/r0")]


def test_no_endpoint_says_how_to_set_one() -> None:
    with pytest.raises(Unavailable, match="no Kubeflow Pipelines endpoint") as raised:
        submit_and_follow(_submission(""), wait=True, on_event=lambda _: None)
    for way in ("serinus.toml", "SERINUS_KFP_ENDPOINT", "--endpoint"):
        assert way in raised.value.hint


def test_a_server_that_is_down_is_told() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        KfpRuns("http://127.0.0.1:9").create(_submission("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, Unavailable, "refuses access"),
        (403, Unavailable, "refuses access"),
        (500, Unavailable, "could not carry out"),
    ],
)
def test_refusals_are_told(endpoint: str, backend: Backend, status: int, kind: type[Exception], message: str) -> None:
    backend.status = status
    with pytest.raises(kind, match=message):
        KfpRuns(endpoint).create(_submission(endpoint))


def test_a_run_that_vanishes_is_told(endpoint: str) -> None:
    with pytest.raises(NotFound, match="run r7 is not known"):
        KfpRuns(endpoint).get("r7")


def test_the_token_is_sent(endpoint: str, backend: Backend) -> None:
    KfpRuns(endpoint, token="secret").create(_submission(endpoint))
    assert backend.authorization == "Bearer secret"
    assert "secret" not in repr(_submission(endpoint, token="secret"))


def test_a_file_that_is_no_pipeline_is_told(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a compiled pipeline"):
        KfpRuns(endpoint).create(_submission(endpoint, package=tmp_path / "none.yaml"))
