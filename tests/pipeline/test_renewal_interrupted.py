"""Every long command is ended by each signal, early and late: in order, with its exit code, and nobody is left.

Then what was cut off: in MLflow, and in the service whose version somebody deletes there.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from renewal_copy import Project, new_project
from renewal_signals import started, wait

from serinus.registry.connection import connect
from serinus.registry.registry import URI_TAG
from tests.servers import free_port

pytestmark = pytest.mark.slow
BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def trained(project: Project) -> Any:
    """Two versions, the first of which serves first."""
    return project.json("pipeline", "run", "renewal", "--register", "gbdt,chosen", "--name", "first")


def _client(project: Project) -> Any:
    return connect(f"sqlite:///{project.home}/mlflow/mlflow.db")


def _status(project: Project, run: str) -> str:
    client = _client(project)
    experiment = client.get_experiment_by_name("renewal")
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`serinus.pipeline_run` = '{run}'")
    return str(found.info.status)


@pytest.mark.parametrize("number", [*BOTH, signal.SIGHUP])
def test_while_it_is_loaded_a_command_ends_with_one_word(project: Project, number: int) -> None:
    for delay in (0.0, 0.05, 0.2, 0.5, 1.0):
        with started(project, "pipeline", "run", "renewal", "--name", f"early-{delay}") as command:
            wait(command.listens, "the first moment")
            time.sleep(delay)
            code, said = command.end(number)
            assert (code, said.splitlines()[-1]) == (130, "interrupted"), said
            assert "Traceback" not in said
            wait(lambda: not command.tree(), "its end")


@pytest.mark.parametrize("number", [*BOTH, signal.SIGKILL])
def test_a_run_that_is_cut_off_leaves_no_step_and_is_closed_by_whoever_comes_next(
    project: Project, number: int
) -> None:
    name = f"cut-{int(number)}"
    with started(project, "pipeline", "run", "renewal", "--name", name) as command:
        wait((project.home / f"runs/{name}/steps/prepare.json").exists, "the first step")
        wait(lambda: len(command.tree()) > 1, "the next step")
        code, said = command.end(number)
        assert code == (-9 if number == signal.SIGKILL else 130), said
        assert "Traceback" not in said
        wait(lambda: not command.tree(), "its steps' end")
    assert _status(project, name) == "RUNNING"
    project.json("model", "list", "renewal")
    assert _status(project, name) == "KILLED"
    assert not list((project.home / f"runs/{name}").glob(".*.lock"))


def test_a_run_that_lives_is_not_closed(project: Project) -> None:
    with started(project, "pipeline", "run", "renewal", "--name", "alive") as command:
        wait((project.home / "runs/alive/steps/prepare.json").exists, "the first step")
        project.json("model", "list", "renewal")
        assert _status(project, "alive") == "RUNNING"
        project.run("pipeline", "run", "renewal", "--resume", "alive", code=6)
        command.end(signal.SIGTERM)
    done = project.json("pipeline", "run", "renewal", "--resume", "alive")
    assert done["succeeded"] is True
    assert _status(project, "alive") == "FINISHED"


def _up(address: str) -> bool:
    try:
        with urlopen(address, timeout=5.0):
            return True
    except (URLError, OSError):
        return False


def _listening(project: Project) -> dict[str, tuple[tuple[str, ...], Callable[[], object], int]]:
    """Commands by name: arguments, when they have begun their work, and their exit code when they are ended."""
    http, outcomes = free_port(), free_port()
    route = project.home / "services/default/renewal/route.json"
    serve = ("serve", "renewal", "--port", str(http), "--grpc-port", "0")
    collect = ("collect", "renewal", "--port", str(outcomes))
    return {
        "serve": (serve, lambda: _up(f"http://127.0.0.1:{http}/v1/models/renewal"), 0),
        "collect": (collect, lambda: _up(f"http://127.0.0.1:{outcomes}/healthz"), 0),
        "rollout run": (("rollout", "run", "renewal"), route.exists, 130),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["serve", "collect", "rollout run"])
@pytest.mark.parametrize("number", [*BOTH, signal.SIGKILL])
def test_a_server_and_a_controller_end_with_everything_they_started(
    project: Project, trained: Any, name: str, number: int
) -> None:
    arguments, begun, expected = _listening(project)[name]
    (project.home / "services/default/renewal/route.json").unlink(missing_ok=True)
    with started(project, *arguments) as command:
        wait(begun, "its work")
        code, said = command.end(number)
        assert code == (-9 if number == signal.SIGKILL else expected), said
        assert "Traceback" not in said
        wait(lambda: not command.tree(), "the end of what it started")


def _predict(project: Project) -> str:
    """The version that answers a caller of the route."""
    route = json.loads((project.home / "services/default/renewal/route.json").read_text())
    arm = route["arms"].get("canary") if len(route["canary_buckets"]) > 500 else route["arms"]["stable"]
    address = f"{arm['endpoint']}/v1/models/renewal:predict"
    body = json.dumps({"instances": [{"entity": "A000"}]}).encode()
    with urlopen(Request(address, body, {"content-type": "application/json"}), timeout=30.0) as answer:
        return str(json.load(answer)["predictions"][0]["model_version"])


def _delete_all_of_its_bundle(client: Any, number: str) -> None:
    """Of a bundle that is registered twice the other number would become champion."""
    bundle = client.get_model_version("renewal", number).tags[URI_TAG]
    for one in client.search_model_versions("name = 'renewal'"):
        if one.tags[URI_TAG] == bundle:
            client.delete_model_version("renewal", one.version)


def _settled(project: Project) -> Any:
    return project.json("rollout", "get", "renewal")


def test_a_version_deleted_while_its_rollout_lives_is_promoted_and_serves_before_and_after_a_restart(
    project: Project, trained: Any
) -> None:
    """Nobody calls, and the policy promotes then: what is tried here is who serves, not why. A service of its own."""
    for path in (project.home / "services/default/renewal").iterdir():
        if path.name != "service.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    project.edit("problems/renewal/problem.yaml", "max_duration: 60d", "max_duration: 15s\n    on_no_data: promote")
    project.edit("problems/renewal/problem.yaml", "hold_back: 1 ", "hold_back: 0 ")
    # Another test may have trained, and so wanted, a later one.
    project.run("rollout", "start", "renewal", "--version", "2")
    state = project.home / "services/default/renewal/rollouts"

    def phase(of: str) -> str:
        found = [json.loads(path.read_text())["phase"] for path in state.glob("*/state.json")]
        return found[-1] if found and of == found[-1] else ""

    with started(project, "rollout", "run", "renewal") as command:
        wait(lambda: list(state.glob("*/spec.json")), "the rollout")
        _delete_all_of_its_bundle(_client(project), "2")
        wait(lambda: phase("promoted"), "the promotion")
        wait(lambda: not (_settled(project)["registry"] or {"holds": True})["holds"], "what is told of the registry")
        told = _settled(project)
        assert told["state"]["phase"] == "promoted"
        assert "version 2 of renewal was deleted from the registry" in told["registry"]["reason"]
        assert _predict(project) == "2"
        command.end(signal.SIGTERM)
    listed = project.json("model", "list", "renewal")
    assert (listed["wanted_version"], listed["gone"]) == (2, [2])
    shown = project.run("model", "list", "renewal").stdout
    assert "serinus model restore renewal 2" in shown
    again = project.json("model", "restore", "renewal", "2")
    assert again["tags"]["serinus.restored_from"] == "2"
    with started(project, "rollout", "run", "renewal") as command:
        wait(lambda: _settled(project)["registry"]["holds"], "the registry to follow")
        wait(lambda: _up(_stable(project)), "the arm")
        assert _predict(project) == "2"
        command.end(signal.SIGTERM)
    aliases = {one["version"]: one["aliases"] for one in project.json("model", "list", "renewal")["versions"]}
    assert "champion" in aliases[again["version"]]
    assert "previous" in aliases[1]


def _stable(project: Project) -> str:
    route = json.loads((project.home / "services/default/renewal/route.json").read_text())
    return f"{route['arms']['canary' if 'canary' in route['arms'] else 'stable']['endpoint']}/v1/models/renewal"
