"""`serinus pipeline submit|watch`: the pipeline on a Kubeflow Pipelines endpoint.

Invariant: how a run ended decides the exit code, as for `serinus pipeline run`; a run that its backend has ended leaves
no open run in MLflow.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from serinus.cli.output import command, err, out, show_error, show_json
from serinus.core.addresses import scheme_of
from serinus.core.card import asked_candidates
from serinus.core.errors import SerinusError, UsageError
from serinus.core.fields import Duration
from serinus.core.names import ServiceRef
from serinus.wiring.definition import definition
from serinus.wiring.project import Project, open_project

if TYPE_CHECKING:
    from pipelines.submit import SubmittedRun, Watch

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Endpoint = Annotated[str, typer.Option(help="Address of the KFP API; else SERINUS_KFP_ENDPOINT or the profile.")]
Deploys = Annotated[str, typer.Option(help="Service to deploy to; the problem's usual one when not given.")]
Timeout = Annotated[
    str, typer.Option(help="Stop following after this time (30m, 2h); the run goes on. Without it: to the end.")
]


@command
def submit(
    problem: str,
    register: Annotated[
        str, typer.Option(help="Candidates to register: names, or `chosen`; separated by commas.")
    ] = "chosen",
    service: Deploys = "",
    endpoint: Endpoint = "",
    experiment: Annotated[str, typer.Option(help="KFP experiment; the problem's name when not given.")] = "",
    name: Annotated[
        str,
        typer.Option(help="Name of the run, made from the time when not given: that of a known one follows it."),
    ] = "",
    image: Annotated[
        str, typer.Option(help="Image of all steps; else SERINUS_PIPELINE_IMAGE, else serinus/pipeline:dev.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Follow the run to its end; Ctrl-C cancels it.")] = True,
    timeout: Timeout = "",
    as_json: Json = False,
) -> int:
    """Submits the pipeline to a Kubeflow Pipelines endpoint and follows it; Ctrl-C cancels it.

    Card, code and data are those of the image (docs/how-to/kubeflow.md). The exit code is that of the step that failed.
    """
    from pipelines.compile import compile_training, package_name
    from pipelines.kfp_api import Submission
    from pipelines.submit import Cancelled, submit_and_follow

    project = open_project()
    loaded = project.problem(problem)
    asked_candidates(register, loaded.card)
    ref = ServiceRef.parse(service or problem)
    asked: dict[str, object] = {"problem": problem, "register": register, "service": str(ref)}
    asked["definition"] = definition(project, loaded)
    with tempfile.TemporaryDirectory(prefix="serinus-") as folder:
        submission = Submission(
            package=compile_training(loaded.card, Path(folder) / package_name(problem)),
            arguments=asked,
            endpoint=endpoint or project.profile.kfp_endpoint,
            image=image,
            namespace=project.profile.kfp_namespace,
            ui=project.profile.kfp_ui,
            token=os.environ.get("SERINUS_KFP_TOKEN", ""),
            experiment=experiment or problem,
            run_name=name or f"{problem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        )
        err.print(f"submitting {submission.run_name}")
        try:
            ended = submit_and_follow(submission, _watch(timeout), wait=wait)
        except Cancelled as cancelled:
            _close(project, problem, cancelled.run_id, "cancelled by Ctrl-C of `serinus pipeline submit`")
            raise
    return _show(project, problem, ended, as_json=as_json)


@command
def watch(
    run: Annotated[str, typer.Argument(help="Name or id of a run of the backend.")],
    endpoint: Endpoint = "",
    timeout: Timeout = "",
    as_json: Json = False,
) -> int:
    """Follows a run of a Kubeflow Pipelines endpoint, whoever submitted it; Ctrl-C leaves the run alone."""
    from pipelines.kfp_api import KfpRuns
    from pipelines.run_tasks import task_names
    from pipelines.submit import follow

    project = open_project()
    profile = project.profile
    token = os.environ.get("SERINUS_KFP_TOKEN", "")
    runs = KfpRuns(endpoint or profile.kfp_endpoint, profile.kfp_namespace, token, profile.kfp_ui)
    run_id = runs.find(run)
    found = runs.get(run_id)
    ended = follow(runs, run_id, task_names(runs.package(found)), _watch(timeout))
    parameters = (found.runtime_config.parameters if found.runtime_config else None) or {}
    return _show(project, str(parameters.get("problem", "")), ended, as_json=as_json)


def _watch(timeout: str) -> Watch:
    from pipelines.submit import Watch

    try:
        seconds = TypeAdapter(Duration).validate_python(timeout).total_seconds() if timeout else 0.0
    except ValidationError as fault:
        raise UsageError(f"--timeout {timeout} is no time", hint="a whole number and a unit: 30m, 2h") from fault
    return Watch(lambda line: err.print(escape(line), soft_wrap=True), seconds)


def _show(project: Project, problem: str, ended: SubmittedRun, *, as_json: bool) -> int:
    if ended.exit_code and problem:
        why = ended.failures[0].headline if ended.failures else f"the run ended as {ended.state}"
        _close(project, problem, ended.run_id, why)
    failures = [vars(one) for one in ended.failures]
    if as_json:
        failure = failures[0] if failures else None
        facts = {"run_id": ended.run_id, "state": ended.state, "url": ended.url, "tasks": dict(ended.tasks)}
        show_json(facts | {"failure": failure, "failures": failures})
    else:
        out.print(f"run {ended.run_id}: {ended.state}  {ended.url}".rstrip(), soft_wrap=True)
    for one in ended.failures:
        show_error(SerinusError(f"{one.task}: {one.headline}", cause=one.cause))
    return ended.exit_code


def _close(project: Project, problem: str, run_id: str, why: str) -> None:
    """The backend has ended the run: where its last task could not close it in MLflow, it is closed here.

    Only on a server: what a cluster keeps in a file on its volume cannot be reached from here.
    """
    from serinus.wiring.adapters import tracker

    if not scheme_of(project.profile.tracking_uri):
        return
    try:
        tracker(project).abandon(problem, run_id, reason=why)
    except SerinusError as fault:
        err.print(escape(f"its run in MLflow may still be open: {fault.headline}"), soft_wrap=True)
