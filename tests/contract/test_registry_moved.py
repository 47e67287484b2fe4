"""A SQLite registry that is moved, or copied, with its artifacts goes on in its new place: MLflow itself finds them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from serinus.core.errors import Unavailable
from serinus.registry.connection import connect
from serinus.registry.moved import follow
from serinus.registry.registry import MlflowRegistry
from serinus.registry.tracker import MlflowTracker

# Real systems are the second part of `make test`.
pytestmark = pytest.mark.slow

MODEL = "toy"


def _uri(home: Path) -> str:
    return f"sqlite:///{home}/ml_flow/mlflow.db"


@dataclass(frozen=True)
class Made:
    """A home with one run of the model, which has an artifact and a version."""

    home: Path
    run: str


@pytest.fixture
def made(tmp_path: Path) -> Made:
    home = tmp_path / "100% here"
    return Made(home, _run(home, "job-1", tmp_path))


def _run(home: Path, job: str, scratch: Path) -> str:
    (scratch / "model.txt").write_text(job)
    tracker = MlflowTracker(_uri(home))
    run = tracker.open_run(MODEL, job, {})
    tracker.log_files(run, scratch / "model.txt", "bundle/gbdt")
    tags = {"serinus.candidate": "gbdt"}
    MlflowRegistry(_uri(home)).register(MODEL, run_id=run, storage_uri=f"bundles://home/toy/{job}", tags=tags)
    return run


def _copied(here: Path, there: Path) -> None:
    shutil.copytree(here, there)
    shutil.rmtree(here)


@pytest.mark.parametrize("move", [shutil.move, _copied], ids=["moved", "copied, and the old one deleted"])
def test_mlflow_finds_old_artifacts_and_puts_new_ones_beside_them(
    move: Callable[[Path, Path], object], made: Made, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    move(made.home, there)
    client = connect(_uri(there))
    assert [one.path for one in client.list_artifacts(made.run, "bundle/gbdt")] == ["bundle/gbdt/model.txt"]
    again = _run(there, "job-2", tmp_path)
    for number, run in (("1", made.run), ("2", again)):
        source = client.get_model_version(MODEL, number).source
        assert source == f"{(there / 'ml_flow/artifacts').as_uri()}/{run}/artifacts/bundle/gbdt"
        assert (there / "ml_flow/artifacts" / run / "artifacts/bundle/gbdt/model.txt").is_file()
        assert client.get_model_version_download_uri(MODEL, number) == source
    assert not made.home.exists(), "nothing is written to the old place"


def test_the_other_one_of_two_copies_is_left_alone(made: Made, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(made.home, there)
    again = _run(there, "job-2", tmp_path)
    assert not (made.home / "ml_flow/artifacts" / again).exists()
    source = connect(_uri(made.home)).get_model_version(MODEL, "1").source
    assert source.startswith((made.home / "ml_flow/artifacts").as_uri())


@pytest.mark.parametrize("place", ["bulk/artifacts", "100% here/ml_flow/artifacts2", "xml_flow/artifacts"])
def test_an_experiment_that_keeps_its_files_elsewhere_goes_on_doing_so(place: str, tmp_path: Path) -> None:
    here, there, elsewhere = tmp_path / "here", tmp_path / "there", (tmp_path / place).as_uri()
    connect(_uri(here)).create_experiment(MODEL, artifact_location=elsewhere)
    MlflowTracker(_uri(here)).open_run(MODEL, "job", {})
    connect(_uri(here)).create_experiment("theirs", artifact_location=(here / "ml_flow/artifacts").as_uri())
    shutil.move(here, there)
    client = connect(_uri(there))
    found = {one.name: one.artifact_location for one in client.search_experiments()}
    assert found[MODEL] == elsewhere
    assert found["theirs"] == (here / "ml_flow/artifacts").as_uri(), "no run of ours is in it"


def test_what_is_no_registry_is_left_to_mlflow_to_tell(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("garbage", b"no database" * 1000)):
        path = tmp_path / name
        path.write_bytes(content)
        follow(path, "serinus.pipeline_run")
        assert path.read_bytes() == content
    with pytest.raises(Unavailable, match="MLflow does not answer as it should"):
        MlflowRegistry(f"sqlite:///{tmp_path}/garbage").versions(MODEL)
