"""A document that a disk or a person damaged is told by its path, by whatever command meets it first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serinus.cli.app import app
from serinus.core.errors import DataError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.route import Route
from serinus.rollout.local_routes import LocalSplitter
from serinus.wiring.adapters import deployer
from serinus.wiring.project import open_project
from serinus.wiring.replayed import replayed
from serinus.wiring.services import places, synced

SERVICE = ServiceRef("default", "renewal")
TEXTS = ("", "{", "[]", '{"nobody": "knows"}')


@pytest.mark.parametrize("text", TEXTS)
def test_of_a_service_and_of_a_replay(renewal_project: Path, text: str) -> None:
    place = places(open_project(), SERVICE)
    (place.rollouts / "one").mkdir(parents=True)
    place.registry.write_text(text)
    (place.rollouts / "one/replayed.json").write_text(text)
    with pytest.raises(DataError, match=r"registry\.json cannot be read"):
        synced(open_project(), SERVICE)
    with pytest.raises(DataError, match=r"replayed\.json cannot be read"):
        replayed(place.rollouts)


def test_of_a_route(tmp_path: Path) -> None:
    path = tmp_path / "route.json"
    path.write_text('{"number": 3')
    with pytest.raises(DataError, match=r"route\.json cannot be read") as told:
        LocalSplitter(path, "salt", str, lambda: 0.0).apply(
            Route(service=SERVICE, rollout="a", number=1, stable="a", seed=0, hold_back=0)
        )
    assert told.value.hint
    assert path.read_text() == '{"number": 3'


@pytest.mark.parametrize("text", TEXTS)
def test_a_command_ends_with_3(renewal_project: Path, text: str) -> None:
    project = open_project()
    deployer(project).want(SERVICE, ModelRef("renewal", 1), "file:///bundles/b1")
    places(project, SERVICE).first.write_text(text)
    result = CliRunner().invoke(app, ["serve", "renewal"])
    run = project.home / "runs/one"
    run.mkdir(parents=True)
    (run / "run.json").write_text(text)
    resumed = CliRunner().invoke(app, ["pipeline", "run", "renewal", "--resume", "one", "--json"])
    assert (resumed.exit_code, json.loads(resumed.stdout)["error"]) == (3, "DataError")
    assert (result.exit_code, "first.json cannot be read" in result.output) == (3, True)
