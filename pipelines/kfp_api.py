"""The part of a Kubeflow Pipelines 2.17 API that submitting, following and ending a run need.

Invariant: faults of the network and of the API are ours, with the reason that the API gives in its body; no request is
repeated that may have been carried out.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
import yaml

from serinus.core.errors import DataError, NotFound, SerinusError, Unavailable, UsageError

TIMEOUT_SECONDS = 30.0
END_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_LIMIT: dict[str, Any] = {"_request_timeout": TIMEOUT_SECONDS}


@dataclass(frozen=True)
class Submission:
    """What to run and where. `run_name` must be its own, for it is how a second try finds the first.

    `image` replaces the one of all components; empty leaves it.
    """

    package: Path
    arguments: dict[str, object]
    endpoint: str
    run_name: str
    experiment: str
    image: str = ""
    namespace: str = ""
    ui: str = ""
    token: str = field(default="", repr=False)


class KfpRuns:
    """Runs of one API. `ui` is where people look at them, which is another address."""

    def __init__(self, endpoint: str, namespace: str = "", token: str = "", ui: str = "") -> None:
        if not endpoint:
            raise Unavailable(
                "no Kubeflow Pipelines endpoint is configured",
                hint="set kfp_endpoint in a profile of serinus.toml, SERINUS_KFP_ENDPOINT, or give --endpoint; "
                "`serinus pipeline run` needs none",
            )
        self.endpoint, self.namespace, self._ui = endpoint.rstrip("/"), namespace, ui.rstrip("/")
        configuration = kfp_server_api.Configuration(host=self.endpoint)
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        configuration.retries = False  # the server client would repeat a request that may have been carried out
        self._client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(self._client)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._client)

    def create(self, submission: Submission) -> str:
        """Starts the run, or finds the one that already has its name; returns its id."""
        experiment = self._experiment(submission.experiment)
        known = self._named(submission.run_name, experiment_id=experiment)
        if known is not None:
            return known
        with _told(self.endpoint):
            run = kfp_server_api.V2beta1Run(
                experiment_id=experiment,
                display_name=submission.run_name,
                pipeline_spec=specification(submission.package, submission.image),
                runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=submission.arguments),
            )
            return str(self._runs.run_service_create_run(run=run, **_LIMIT).run_id)

    def find(self, run: str) -> str:
        """The id of a run by its name or its id. Raises `NotFound`."""
        return self._named(run) or str(self.get(run).run_id)

    def get(self, run_id: str) -> Any:  # noqa: ANN401 - V2beta1Run
        """The run with its tasks."""
        with _told(self.endpoint, f"run {run_id}"):
            return self._runs.run_service_get_run(run_id=run_id, **_LIMIT)

    def package(self, run: Any) -> Mapping[str, Any]:  # noqa: ANN401 - V2beta1Run
        """The compiled pipeline of a run, which a schedule keeps as a version of its own."""
        found, reference = run.pipeline_spec, run.pipeline_version_reference
        if found is None and reference is not None:
            versions = kfp_server_api.PipelineServiceApi(self._client)
            with _told(self.endpoint, f"the pipeline of run {run.run_id}"):
                found = versions.pipeline_service_get_pipeline_version(
                    reference.pipeline_id, reference.pipeline_version_id, **_LIMIT
                ).pipeline_spec
        document: Mapping[str, Any] = found or {}
        return document.get("pipeline_spec") or document

    def log(self, run_id: str, node: str) -> list[str]:
        """What the pod of a node wrote, also when it is gone; nothing when the API has nothing."""
        path = {"run": run_id, "node": node}
        try:
            with _told(self.endpoint, f"the log of {node}"):
                text = self._client.call_api(
                    "/apis/v1alpha1/runs/{run}/nodes/{node}/log", "GET", path, response_type="str",
                    auth_settings=["Bearer"], _return_http_data_only=True, **_LIMIT,
                )  # fmt: skip
        except (SerinusError, UnicodeDecodeError):
            return []
        return str(text).splitlines()

    def terminate(self, run_id: str) -> None:
        """Asks for the run's end; it is over when its state says so. One that has ended is left as it is."""
        try:
            with _told(self.endpoint, f"run {run_id}"):
                self._runs.run_service_terminate_run(run_id=run_id, **_LIMIT)
        except UsageError:
            if self.get(run_id).state not in END_STATES:
                raise

    def url(self, run_id: str) -> str:
        """Where people look at the run; empty when nobody said where that is."""
        return f"{self._ui}/#/runs/details/{run_id}" if self._ui else ""

    def _named(self, name: str, **where: str) -> str | None:
        with _told(self.endpoint):
            known = self._runs.run_service_list_runs(filter=_named(name), **where, **self._scope(), **_LIMIT)
        return str(known.runs[0].run_id) if known.runs else None

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


def specification(package: Path, image: str = "") -> dict[str, Any]:
    """The package as the API wants it, its components in `image` when there is one. Raises `DataError`."""
    try:
        documents = list(yaml.load_all(package.read_text(encoding="utf-8"), yaml.CSafeLoader))
    except (OSError, yaml.YAMLError) as fault:
        raise DataError(f"{package} is not a compiled pipeline", cause=str(fault)) from fault
    if image:
        for executor in documents[0]["deploymentSpec"]["executors"].values():
            executor["container"]["image"] = image
    if len(documents) == 1:
        return dict(documents[0])
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _named(name: str) -> str:
    """KFP's filter for an exact display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


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
    cause = _message(fault.body) or f"HTTP {fault.status} {fault.reason}"
    if fault.status == 404:
        return NotFound(f"{what} is not known to Kubeflow Pipelines at {endpoint}", cause=cause)
    if fault.status in (401, 403):
        return Unavailable(
            f"Kubeflow Pipelines at {endpoint} refuses access", cause=cause, hint="set SERINUS_KFP_TOKEN"
        )
    if fault.status == 400:
        return UsageError(f"Kubeflow Pipelines at {endpoint} refuses {what}", cause=cause)
    return Unavailable(f"Kubeflow Pipelines at {endpoint} could not carry out {what}", cause=cause)


def _message(body: object) -> str:
    """The reason in the body of an error, whose form is `{"error", "code", "message", "details"}`."""
    try:
        document = json.loads(body) if isinstance(body, str | bytes) else None
    except ValueError:
        return ""
    found = document.get("message") or document.get("error") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""
