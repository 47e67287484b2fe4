"""A home of release 0.1, written by its own code (`home_0_1/`: of `make quick`, cut down): refused, and converted."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[2]))
from disks import Killed, KillingDisk
from servers import MEMORY

from serinus.cli.app import app
from serinus.core.errors import Conflict, DataError, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.memory import is_new
from serinus.core.words import Phase
from serinus.files import locked
from serinus.rollout.registry_sync import owner_of
from serinus.wiring import old_home as old_home_module
from serinus.wiring.adapters import registry
from serinus.wiring.home_layout import is_old
from serinus.wiring.old_home import convert, planned
from serinus.wiring.project import Project, open_project
from serinus.wiring.services import in_service, rollouts, service_store, wanted

ROOT = Path(__file__).parents[3]
CLICKS = ServiceRef("default", "clicks")
SECOND = "8d0f5d16bb5e0c694b7748ad26dafff882f77820782ead7ad690d2b998a86dba"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def old_home(folder: Path) -> Path:
    """As release 0.1 left it there: URIs were places on its disk."""
    home = folder / "home"
    shutil.copytree(Path(__file__).parent / "home_0_1", home)
    for path in home.rglob("*.json"):
        path.write_text(path.read_text().replace("file://HOME", f"file://{home}"))
    return home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = old_home(tmp_path)
    for name in ("SERINUS_PROFILE", "SERINUS_TRACKING_URI", "SERINUS_ONLINE", "SERINUS_SALT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERINUS_PROJECT", str(ROOT / "examples/clicks"))
    monkeypatch.setenv("SERINUS_HOME", str(made))
    return made


def named(uri: str) -> str:
    """Every bundle has a name, so that nothing here depends on which stores there are."""
    return f"bundles://home/clicks/{uri.rpartition('/')[2]}"


def contents(home: Path) -> dict[str, Any]:
    """Every file with its content; documents as values."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and not _left_over(path)]
    return {
        path.relative_to(home).as_posix(): json.loads(path.read_text())
        if path.suffix == ".json"
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _left_over(path: Path) -> bool:
    """The lock, which stays; and what a killed writer had begun, which nobody reads."""
    return path.name == ".converting.lock" or path.suffix == ".tmp"


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollout", "history", "clicks"),
        ("kpis", "clicks"),
        ("serve", "clicks"),
        ("pipeline", "run", "clicks"),
        ("chart", "clicks"),
    ],
    ids=lambda one: one[0],
)
def test_whatever_would_use_it_is_refused_with_the_command_that_converts_it(
    home: Path, arguments: tuple[str, ...]
) -> None:
    before = contents(home)
    found = run(*arguments)
    assert found.exit_code == 6, found.output
    assert "is a home of release 0.1" in found.stderr
    assert "serinus home convert" in found.stderr
    assert contents(home) == before


def test_a_dry_run_says_what_would_be_done_and_does_nothing(home: Path) -> None:
    before = contents(home)
    assert "clicks would be service default/clicks" in run("home", "convert", "--dry-run").stdout
    found = json.loads(run("home", "convert", "--dry-run", "--json").stdout)
    assert found["services"] == ["default/clicks"]
    assert found["done"] is False
    assert "services/default/clicks/service.json" in found["documents"]
    assert contents(home) == before


def test_nothing_is_lost(home: Path) -> None:
    before = contents(home)
    assert run("home", "convert").exit_code == 0
    after = contents(home)
    own = after.pop("services/default/clicks/service.json")
    assert own.items() >= {"salt": "b46d38bb6d75408c", "version": 2, "first_version": 1, "retry": 0}.items()
    moved = {path.replace("services/clicks", "services/default/clicks"): one for path, one in before.items()}
    moved = {path.replace("events/clicks", "events/default/clicks"): one for path, one in moved.items()}
    del moved["services/default/clicks.json"]
    assert moved.keys() == after.keys()
    rewritten = {path for path in moved if moved[path] != after[path]}
    assert {Path(path).name for path in rewritten} == {"first.json", "spec.json", "state.json"}


def test_who_served_serves_under_the_same_name_and_nothing_is_rolled_out(home: Path) -> None:
    run("home", "convert")
    project = open_project()
    store = rollouts(project, CLICKS)
    assert store.names() == ["clicks-v2-8dd968", "clicks-v2-3f50ad"]
    assert [store.state(name).phase for name in store.names()] == [Phase.PROMOTED, Phase.ROLLED_BACK]
    serves = in_service(project, CLICKS)
    assert serves is not None
    assert (serves.name, serves.service, serves.model) == ("clicks-v2-8dd968", CLICKS, ModelRef("clicks", 2))
    assert serves.storage_uri == f"bundles://home/clicks/{SECOND}"
    # What was wanted and rolled back is still that try: its rollout stands, so no other one begins.
    asked = wanted(project, CLICKS)
    assert asked.revision.name == "clicks-v2-3f50ad"
    assert not is_new(service_store(project, CLICKS).memory(), asked)
    assert asked.first.name == "clicks-v1-b97461"


def test_converting_again_changes_nothing(home: Path) -> None:
    assert run("home", "convert").exit_code == 0
    before = contents(home)
    found = run("home", "convert")
    assert found.exit_code == 0
    assert "nothing to do" in found.stdout
    assert contents(home) == before


def test_one_that_finds_it_converted_when_its_turn_comes_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another conversion ends between its first look and its lock."""
    after: list[dict[str, Any]] = []

    def looked(path: Path) -> bool:
        found = is_old(path)
        if not after:
            after.append({})
            convert(path, named)
            after[0] = contents(path)
        return found

    monkeypatch.setattr(old_home_module, "is_old", looked)
    assert convert(home, named).services == ()
    assert contents(home) == after[0]


def test_killed_anywhere_and_run_again_it_comes_to_the_same_end() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as scratch:
        small = old_home(Path(scratch))
        shutil.rmtree(small / "services/clicks/rollouts/clicks-v2-3f50ad")
        shutil.rmtree(small / "events/clicks/exposures")
        whole = shutil.copytree(small, Path(scratch) / "whole")
        convert(whole, named)
        for at, after in product(range(1_000), (False, True)):
            home = shutil.copytree(small, Path(scratch) / f"{at}-{after}")
            try:
                convert(home, named, disk=KillingDisk(at, after))
            except Killed:
                assert is_old(home) or contents(home) == contents(whole), "half of a conversion is refused, too"
                # One that has begun goes on with the namespace that it had.
                convert(home, named, "other" if any(home.glob(".convert*-*")) else "default")
                assert contents(home) == contents(whole)
                shutil.rmtree(home)
            else:
                assert at > 10
                return
    raise AssertionError("it never came to its end")


def test_a_service_called_like_the_namespace_is_one_of_it(tmp_path: Path) -> None:
    home = old_home(tmp_path)
    for path in ("services/clicks.json", "services/clicks", "events/clicks"):
        (home / path).rename(home / path.replace("clicks", "default"))
    convert(home, named)
    assert (home / "services/default/default/service.json").exists()
    assert (home / "events/default/default/exposures").is_dir()


def test_services_can_get_another_namespace(home: Path) -> None:
    """That of a release on a cluster, which had none in its home."""
    found = json.loads(run("home", "convert", "--namespace", "serinus", "--json").stdout)
    assert found["services"] == ["serinus/clicks"]
    assert (home / "services/serinus/clicks/service.json").exists()
    assert (home / "events/serinus/clicks/exposures").is_dir()


def test_the_aliases_of_its_model_go_along(home: Path) -> None:
    """Else the service under its new name would find them to be those of a service that is no more."""
    models = registry(open_project())
    models.register("clicks", run_id="0" * 32, storage_uri=f"bundles://home/clicks/{SECOND}", tags={})
    models.manage("clicks", "service/clicks")
    assert run("home", "convert", "--namespace", "serinus").exit_code == 0
    assert models.manage("clicks", owner_of(ServiceRef("serinus", "clicks"))) == "service/serinus/clicks"


def test_a_registry_that_does_not_answer_is_told_before_anything_is_moved(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERINUS_TRACKING_URI", "http://127.0.0.1:9")
    assert run("home", "convert", "--namespace", "serinus").exit_code == 5
    assert (home / "services/clicks.json").exists()
    assert not (home / "services/serinus").exists()


@pytest.mark.parametrize("lost", [("services/clicks.json",), ("services/clicks.json", "services/clicks")])
def test_what_a_service_left_is_converted_where_its_file_is_gone(home: Path, lost: tuple[str, ...]) -> None:
    """A damaged service file asked in 0.1 for being deleted."""
    for path in lost:
        shutil.rmtree(home / path) if (home / path).is_dir() else (home / path).unlink()
    assert run("kpis", "clicks").exit_code == 6
    found = json.loads(run("home", "convert", "--json").stdout)
    assert found["services"] == ["default/clicks"]
    assert list((home / "events/default/clicks/exposures").glob("*.parquet"))
    assert not is_old(home)


def test_a_home_that_release_0_1_worked_on_after_its_conversion_is_left_alone(home: Path) -> None:
    """Its folders of namespaces would be taken for services."""
    shutil.copytree(home / "services", home.parent / "services")
    assert run("home", "convert").exit_code == 0
    shutil.copy(home.parent / "services/clicks.json", home / "services/clicks.json")
    before = contents(home)
    found = run("home", "convert")
    assert found.exit_code == 6
    assert "services/default/clicks/service.json is of this one" in found.stderr
    assert contents(home) == before


def test_a_home_without_services_is_of_this_release(tmp_path: Path) -> None:
    assert planned(tmp_path, named).services == convert(tmp_path, named).services == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"service": 1}'])
def test_a_document_that_cannot_be_understood_is_named_and_nothing_is_touched(tmp_path: Path, text: str) -> None:
    home = old_home(tmp_path)
    (home / "services/clicks/rollouts/clicks-v2-3f50ad/spec.json").write_text(text)
    names = sorted(path.name for path in home.iterdir())
    with pytest.raises(DataError, match=r"clicks-v2-3f50ad/spec\.json cannot be understood"):
        convert(home, named)
    assert sorted(path.name for path in home.iterdir() if path.name != ".converting.lock") == names
    assert (home / "services/clicks.json").exists()


def test_a_name_that_no_service_can_have_now_is_told_before_anything_is_moved(tmp_path: Path) -> None:
    home = old_home(tmp_path)
    (home / "services/clicks.json").rename(home / "services/card_fraud.json")
    with pytest.raises(UsageError, match="service card_fraud cannot be converted") as told:
        convert(home, named)
    assert "lower-case letters" in told.value.cause
    assert (home / "services/card_fraud.json").exists()


@pytest.mark.parametrize("path", ["services/clicks/.lock", "events/clicks/writers/clicks-v1-b97461.9ff53c3bd9cf"])
def test_a_home_in_use_is_left_alone(tmp_path: Path, path: str) -> None:
    home = old_home(tmp_path)
    with locked(home / path), pytest.raises(Conflict, match="is in use") as told:
        convert(home, named)
    assert path in told.value.cause
    assert (home / "services/clicks.json").exists()


def test_a_project_says_where_its_home_is_only_if_it_can_be_used(home: Path) -> None:
    project: Project = open_project()
    with pytest.raises(Conflict, match=r"is a home of release 0\.1"):
        _ = project.home
    convert(project.profile.home, named)
    assert open_project().home == home
