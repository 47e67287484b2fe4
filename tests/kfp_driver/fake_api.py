"""A fake server of the Kubeflow Pipelines API, which answers with the published models of kfp_server_api.

Shapes are those that a backend of 2.17.0 answered with: of each task the workflow's nodes (`x` and `x(0)`, its driver,
its `executor` and `executor(0)`), beside those of the graph; ids of nodes only as children; no state for what was left
out; a terminated run that ends as FAILED; the log of a pod as text; the reason of a refusal in the body.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import kfp_server_api as api

API = "/apis/v2beta1"
SERIALIZER = api.ApiClient()


@dataclass
class Backend:
    """What the fake server knows; `script` gives the run's states poll by poll, the last one stays."""

    script: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    tasks: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    refusal: dict[str, Any] = field(default_factory=dict)
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
        match = re.fullmatch(rf"{API}/pipelines/[^/]+/versions/([^/]+)", path)
        if match:
            return api.V2beta1PipelineVersion(pipeline_spec=self.versions[match[1]])
        match = re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", path)
        if match:
            return self.logs.get(match[1])
        match = re.fullmatch(rf"{API}/runs/([^:/]+)(:terminate)?", path)
        if match is None or match[1] not in self.runs:
            return None
        if match[2]:
            return self._terminate(self.runs[match[1]])
        return self._poll(self.runs[match[1]])

    def _terminate(self, run: Any) -> Any:
        if run.state in ("SUCCEEDED", "FAILED"):
            return Refusal(400, {"message": f"Failed to terminate run {run.run_id}: it is not running"})
        self.script = ["CANCELING", "FAILED"]
        return {}

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


def nodes(task: str, state: str, *, executor: str | None = None, pod: str = "") -> list[dict[str, Any]]:
    """The nodes of a task; `executor` is the state of its pod when it differs, `pod` the id of its last try."""
    inner = executor or state
    children = [api.PipelineTaskDetailChildTask(pod_name=pod or f"{task}-pod")]
    return [
        {"display_name": f"{task}-driver", "state": "SUCCEEDED"},
        {"display_name": f"{task}-driver(0)", "state": "SUCCEEDED"},
        {"display_name": task, "state": state},
        {"display_name": f"{task}(0)", "state": state},
        {"display_name": "executor", "state": inner, "child_tasks": children},
        {"display_name": "executor(0)", "state": inner},
    ]


def graph(state: str) -> list[dict[str, Any]]:
    """The nodes that are no task: of the workflow, its root and the exit handler."""
    names = ("retail-training-x7k2p", "root", "root(0)", "root-driver", "exit-handler-1", "exit-handler-1.onExit")
    return [{"display_name": name, "state": state} for name in names]


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success."""

    status: int
    body: dict[str, Any]


@contextmanager
def served(backend: Backend) -> Iterator[str]:
    """The address of a server that answers for the backend."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlparse(self.path)
            backend.requests.append(f"{self.command} {url.path}")
            backend.authorization = self.headers.get("authorization", "")
            answer = Refusal(backend.status, backend.refusal)
            if backend.status == 200:
                answer = backend.answer(self.command, url.path, parse_qs(url.query), body)
                answer = Refusal(404, {}) if answer is None else answer
            status, model = (answer.status, answer.body) if isinstance(answer, Refusal) else (200, answer)
            payload = SERIALIZER.sanitize_for_serialization(model)
            payload = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(model, str) else "application/json")
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
