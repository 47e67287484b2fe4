"""A home can be moved: what serves, what was decided and what is known of versions goes on in the new place.

The old place is gone, so whoever still went there would fail, or make it anew.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from renewal_copy import Project, new_project

from serinus.core.names import ServiceRef
from serinus.core.rollout.evidence import Readiness
from serinus.wiring.adapters import registry
from serinus.wiring.lookup import Asked, look_up
from serinus.wiring.project import open_project
from serinus.wiring.rollouts import Hosted, Hosting, hosted
from serinus.wiring.services import rollouts, wanted

pytestmark = pytest.mark.slow
RENEWAL = ServiceRef("default", "renewal")
SECONDS = 300


@dataclass(frozen=True)
class Moved:
    """The project in its new place, what it had served in the old one, and where that was."""

    project: Project
    before: dict[str, float]
    old: Path


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    here = new_project(tmp_path_factory.mktemp("here"))
    _trained(here, "first", "gbdt,chosen")
    before = _served(here)
    there = new_project(tmp_path_factory.mktemp("there"))
    shutil.rmtree(there.folder)
    shutil.copytree(here.folder, there.folder)
    shutil.rmtree(here.folder.parent)
    return Moved(there, before, here.folder.parent)


def _trained(project: Project, name: str, register: str) -> None:
    command = [sys.executable, str(Path(__file__).parent / "forked_run.py"), "renewal", name, register]
    done = subprocess.run(command, env=project.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _served(copy: Project) -> dict[str, float]:
    """The answer of each revision of the rollout, from its real predictor."""
    project = open_project(copy.environment)
    with hosted(project, RENEWAL, Hosting()) as host:
        asked, deadline = wanted(project, RENEWAL), time.monotonic() + SECONDS
        while not all(host.arms.condition(one).readiness is Readiness.READY for one in (asked.first, asked.revision)):
            assert time.monotonic() < deadline, "its predictors do not come up"
            host.controller.tick()
            time.sleep(0.5)
        assert host.controller.stable() == asked.first
        return {one.name: _answer(host, one.name) for one in (asked.first, asked.revision)}


def _answer(host: Hosted, revision: str) -> float:
    url = f"{host.arms.endpoint(revision)}/v1/models/renewal:predict"
    body = json.dumps({"instances": [{"entity": "A000"}]}).encode()
    with urlopen(Request(url, body, {"content-type": "application/json"}), timeout=30) as found:
        return float(json.load(found)["predictions"][0]["probability"])


def test_the_rollout_goes_on_with_the_same_revisions_and_the_same_answers(moved: Moved) -> None:
    assert _served(moved.project) == moved.before
    project = open_project(moved.project.environment)
    store = rollouts(project, RENEWAL)
    brought = [store.spec(name).candidate for name in store.names()]
    assert brought == [wanted(project, RENEWAL).revision], "no other one began"


def test_versions_and_features_are_found(moved: Moved) -> None:
    project = open_project(moved.project.environment)
    listed = registry(project).versions("renewal")
    assert [one.version for one in listed] == [2, 1]
    for one in listed:
        assert one.storage_uri == f"bundles://home/renewal/{one.tags['serinus.bundle_hash']}"
    assert registry(project).version("renewal", "1") == listed[1]
    assert [one.known for one in look_up(project, Asked("renewal", "A000"))] == [True]


def test_another_version_is_trained_there_and_judged_against_the_champion(moved: Moved) -> None:
    _trained(moved.project, "second", "linear")
    artifacts = moved.project.home / "mlflow/artifacts"
    sources = {one: _source(moved.project, one) for one in (1, 2, 3)}
    assert all(source.startswith(f"{artifacts.as_uri()}/") for source in sources.values()), sources
    assert all(Path(one.removeprefix("file://"), "bundle.json").is_file() for one in sources.values())
    tags = registry(open_project(moved.project.environment)).version("renewal", "3").tags
    assert tags["serinus.gate.not_worse_than_champion"] == "pass"


def _source(project: Project, version: int) -> str:
    with closing(sqlite3.connect(project.home / "mlflow/mlflow.db")) as db:
        (found,) = db.execute("SELECT source FROM model_versions WHERE version = ?", (version,)).fetchone()
    return str(found)


def test_nothing_was_made_where_it_had_been(moved: Moved) -> None:
    assert not moved.old.exists()


def test_no_file_that_is_read_again_names_the_old_place(moved: Moved) -> None:
    """Left are logs, and the records of the run that had ended: taken up again, it makes its results anew."""
    home = moved.project.home
    named = {path.relative_to(home) for path in home.rglob("*") if path.is_file() and _names(path, str(moved.old))}
    assert {path for path in named if path.parts[:2] != ("runs", "first") and path.suffix != ".log"} == set()


def _names(path: Path, text: str) -> bool:
    if path.name != "mlflow.db":
        return text.encode() in path.read_bytes()
    with closing(sqlite3.connect(path)) as db:  # its free pages hold what was
        return any(text in line for line in db.iterdump())
