"""`serinus pipeline submit|watch` as a user sees them, against the fake server of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp_driver.fake_api import Backend, nodes, served
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.core.endings import told
from serinus.core.run import StepError
from serinus.registry.tracker import MlflowTracker
from serinus.wiring.definition import definition
from serinus.wiring.project import open_project

REFUSED = told("gates", StepError(error="GateFailed", headline="refused by fast_enough", hint="faster", exit_code=3))


@pytest.fixture
def backend() -> Backend:
    return Backend(script=["SUCCEEDED"])


@pytest.fixture(autouse=True)
def endpoint(backend: Backend, renewal_project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(backend) as address:
        monkeypatch.setenv("SERINUS_KFP_ENDPOINT", address)
        yield address


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["pipeline", *arguments])


def _document(*arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def _refuse(backend: Backend) -> None:
    backend.script = ["FAILED"]
    backend.tasks = [*nodes("prepare", "SUCCEEDED"), *nodes("gates", "FAILED", pod="p7")]
    backend.logs = {"p7": REFUSED}


def test_a_run_that_succeeds_ends_with_0_and_its_tasks(backend: Backend) -> None:
    backend.tasks = nodes("prepare", "SUCCEEDED")
    found = _document("submit", "renewal", "--name", "mine")
    assert (found["run_id"], found["state"], found["url"]) == ("r0", "SUCCEEDED", "")
    assert found["tasks"]["prepare"] == "succeeded"
    assert found["failure"] is None


def test_a_gate_that_refuses_is_told_and_ends_with_3(backend: Backend) -> None:
    _refuse(backend)
    done = run("submit", "renewal")
    assert done.exit_code == 3
    assert "error: gates: refused by fast_enough" in done.stderr
    assert "faster" in done.stderr
    found = _document("submit", "renewal", code=3)
    assert found["failure"] == {
        "task": "gates",
        "headline": "refused by fast_enough",
        "cause": "faster",
        "exit_code": 3,
    }
    assert found["tasks"]["gates"] == "failed"
    assert found["tasks"]["register"] == "omitted"


def test_a_second_submit_under_a_name_finds_the_first(backend: Backend) -> None:
    assert _document("submit", "renewal", "--name", "mine")["run_id"] == "r0"
    assert _document("submit", "renewal", "--name", "mine")["run_id"] == "r0"
    assert _document("submit", "renewal")["run_id"] == "r1"


def test_the_definition_of_the_problem_goes_along(backend: Backend) -> None:
    _document("submit", "renewal", "--no-wait")
    project = open_project()
    sent = backend.runs["r0"].runtime_config.parameters
    assert sent["definition"] == definition(project, project.problem("renewal"))


def test_nothing_is_written_to_a_home_that_is_elsewhere(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERINUS_HOME", "/sys/serinus")
    assert _document("submit", "renewal", "--no-wait", "--image", "mine:7")["state"] == "SUBMITTED"
    executors = backend.runs["r0"].pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"mine:7"}


@pytest.mark.parametrize("which", ["mine", "r0"])
def test_a_run_is_watched_by_name_and_by_id(backend: Backend, which: str) -> None:
    _document("submit", "renewal", "--name", "mine", "--no-wait")
    _refuse(backend)
    found = _document("watch", which, code=3)
    assert (found["run_id"], found["failure"]["task"]) == ("r0", "gates")
    assert found["tasks"]["prepare"] == "succeeded"


def test_watching_what_is_not_there_ends_with_4() -> None:
    assert run("watch", "nobody").exit_code == 4


def test_the_link_is_that_of_the_profile(renewal_project: Path) -> None:
    file = renewal_project / "serinus.toml"
    file.write_text(file.read_text().replace('home = ".serinus"', 'home = ".serinus"\nkfp_ui = "https://kfp.local"', 1))
    assert _document("submit", "renewal", "--no-wait")["url"] == "https://kfp.local/#/runs/details/r0"


def test_a_time_that_is_none_is_told(backend: Backend) -> None:
    done = run("submit", "renewal", "--timeout", "soon")
    assert done.exit_code == 2
    assert "--timeout soon is no time" in done.stderr


def test_a_run_that_the_backend_ended_is_closed_in_mlflow(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminated run's last task never ran, so nobody there closed it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("SERINUS_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    tracker = MlflowTracker(uri)
    run_id = tracker.open_run("renewal", "r0", {})
    _refuse(backend)
    assert run("submit", "renewal").exit_code == 3
    from mlflow import MlflowClient

    found = MlflowClient(uri).get_run(run_id)
    assert found.info.status == "KILLED"
    assert found.data.tags["serinus.failure"] == "refused by fast_enough"
    assert tracker.abandon("renewal", "r0", reason="again") is False


def test_help_names_image_and_its_variable() -> None:
    text = " ".join(run("submit", "--help").stdout.split())
    assert "--image" in text
    assert "SERINUS_PIPELINE_IMAGE" in text
