"""Submits a compiled pipeline to a Kubeflow Pipelines 2.17 API, follows the run, and cancels it.

Invariant: a submission that is tried again finds the run of its own name instead of starting a second one; following
ends on every end state, cancelled ones included. Tested against the published API models on a fake server: no real
backend runs in this repository's CI.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
import yaml

from serinus.core.errors import DataError, NotFound, SerinusError, Unavailable

END_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
POLL_SECONDS = 5.0
CANCEL_POLLS = 24
TIMEOUT_SECONDS = 30.0
OnEvent = Callable[[str], None]
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Submission:
    """What to run and where. `run_name` must be its own, for it is how a second try finds the first."""

    package: Path
    arguments: dict[str, object]
    endpoint: str
    run_name: str
    experiment: str
    namespace: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class SubmittedRun:
    """A run as last seen; `state` is one of KFP's runtime states, or SUBMITTED."""

    run_id: str
    state: str
    url: str
    failed_tasks: tuple[str, ...] = ()


class KfpRuns:
    """The part of the API that submissions need."""

    def __init__(self, endpoint: str, namespace: str = "", token: str = "") -> None:
        if not endpoint:
            raise Unavailable(
                "no Kubeflow Pipelines endpoint is configured",
                hint="set kfp_endpoint in a profile of serinus.toml, SERINUS_KFP_ENDPOINT, or give --endpoint; "
                "`serinus pipeline run` needs none",
            )
        self.endpoint, self.namespace = endpoint.rstrip("/"), namespace
        configuration = kfp_server_api.Configuration(host=self.endpoint)
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        configuration.retries = False  # the server client would repeat a request that may have been carried out
        client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)

    def create(self, submission: Submission) -> str:
        """Starts the run, or finds the one that already has its name; returns its id."""
        experiment = self._experiment(submission.experiment)
        with _told(self.endpoint):
            known = self._runs.run_service_list_runs(
                experiment_id=experiment, filter=_named(submission.run_name), **self._scope(), **_LIMIT
            )
            if known.runs:
                return str(known.runs[0].run_id)
            run = kfp_server_api.V2beta1Run(
                experiment_id=experiment,
                display_name=submission.run_name,
                pipeline_spec=_specification(submission.package),
                runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=submission.arguments),
            )
            return str(self._runs.run_service_create_run(run=run, **_LIMIT).run_id)

    def get(self, run_id: str) -> Any:  # noqa: ANN401 - V2beta1Run
        """The run with its tasks."""
        with _told(self.endpoint, f"run {run_id}"):
            return self._runs.run_service_get_run(run_id=run_id, **_LIMIT)

    def terminate(self, run_id: str) -> None:
        """Asks for the run's end; it is over when its state says so."""
        with _told(self.endpoint, f"run {run_id}"):
            self._runs.run_service_terminate_run(run_id=run_id, **_LIMIT)

    def url(self, run_id: str) -> str:
        """Where people look at the run."""
        return f"{self.endpoint}/#/runs/details/{run_id}"

    def _experiment(self, name: str) -> str:
        with _told(self.endpoint):
            found = self._experiments.experiment_service_list_experiments(
                filter=_named(name), **self._scope(), **_LIMIT
            )
            if found.experiments:
                return str(found.experiments[0].experiment_id)
            wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace or None)
            made = self._experiments.experiment_service_create_experiment(experiment=wanted, **_LIMIT)
            return str(made.experiment_id)

    def _scope(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}


_LIMIT: dict[str, Any] = {"_request_timeout": TIMEOUT_SECONDS}


def submit_and_follow(
    submission: Submission, *, wait: bool, on_event: OnEvent, sleep: Sleep = time.sleep
) -> SubmittedRun:
    """Submits and, with `wait`, follows to the end; Ctrl-C cancels the run, waits for that, and goes on as Ctrl-C."""
    runs = KfpRuns(submission.endpoint, submission.namespace, submission.token)
    run_id = runs.create(submission)
    on_event(f"submitted {submission.run_name}: {runs.url(run_id)}")
    if not wait:
        return SubmittedRun(run_id, "SUBMITTED", runs.url(run_id))
    try:
        return follow(runs, run_id, on_event=on_event, sleep=sleep)
    except KeyboardInterrupt:
        on_event(f"cancelling {run_id}")
        runs.terminate(run_id)
        _await_end(runs, run_id, sleep)
        raise


def follow(runs: KfpRuns, run_id: str, *, on_event: OnEvent, sleep: Sleep = time.sleep) -> SubmittedRun:
    """Polls until the run has ended; tells each change of the run and of its tasks once."""
    seen: dict[str, str] = {}
    while True:
        run = runs.get(run_id)
        for name, state in _states(run):
            if seen.get(name) != state:
                seen[name] = state
                on_event(f"{name}: {state.lower()}")
        if run.state in END_STATES:
            failed = tuple(name for name, state in seen.items() if state == "FAILED" and name != "run")
            return SubmittedRun(run_id, str(run.state), runs.url(run_id), failed)
        sleep(POLL_SECONDS)


def _await_end(runs: KfpRuns, run_id: str, sleep: Sleep) -> None:
    for _ in range(CANCEL_POLLS):
        if runs.get(run_id).state in END_STATES:
            return
        sleep(POLL_SECONDS)


def _states(run: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - V2beta1Run
    """Tasks first, the run last; drivers and the run's own node are not of interest."""
    details = run.run_details.task_details if run.run_details else None
    for task in details or []:
        name = str(task.display_name or "")
        if name and not name.endswith("-driver") and task.state:
            yield name, str(task.state)
    if run.state:
        yield "run", str(run.state)


def _named(name: str) -> str:
    """KFP's filter for an exact display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _specification(package: Path) -> dict[str, Any]:
    """Pipeline and platform parts of the package, as CreateRun takes them."""
    try:
        documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as fault:
        raise DataError(f"{package} is not a compiled pipeline", cause=str(fault)) from fault
    if len(documents) == 1:
        return dict(documents[0])
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


@contextmanager
def _told(endpoint: str, what: str = "the request") -> Iterator[None]:
    """Faults of the network and of the API as ours."""
    try:
        yield
    except kfp_server_api.ApiException as fault:
        raise _ours(endpoint, what, fault) from fault
    except (urllib3.exceptions.HTTPError, OSError) as fault:
        raise Unavailable(
            f"Kubeflow Pipelines at {endpoint} does not answer", cause=str(fault), hint="is the address right?"
        ) from fault


def _ours(endpoint: str, what: str, fault: Any) -> SerinusError:  # noqa: ANN401 - ApiException
    cause = f"HTTP {fault.status} {fault.reason}"
    if fault.status == 404:
        return NotFound(f"{what} is not known to Kubeflow Pipelines at {endpoint}", cause=cause)
    if fault.status in (401, 403):
        return Unavailable(
            f"Kubeflow Pipelines at {endpoint} refuses access", cause=cause, hint="set SERINUS_KFP_TOKEN"
        )
    return Unavailable(f"Kubeflow Pipelines at {endpoint} could not carry out {what}", cause=cause)
