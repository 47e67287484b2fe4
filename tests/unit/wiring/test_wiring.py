"""Projects, journals, steps and services: where things are, and what a step leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from serinus.core.errors import CardError, DataError, NotFound, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion, Service
from serinus.core.run import StepRecord
from serinus.files import DISK
from serinus.wiring.adapters import deployer, online_address
from serinus.wiring.deployer import FileDeployer
from serinus.wiring.journal import Journal
from serinus.wiring.project import load_module, open_project
from serinus.wiring.step import step
from serinus.wiring.summary import summarize
from serinus.wiring.warned import failed_warnings, remember

TOY, RENEWAL = ServiceRef("default", "toy"), ServiceRef("default", "renewal")


def test_a_project_is_found_upwards(renewal_project: Path) -> None:
    below = renewal_project / "problems/renewal"
    project = open_project({}, start=below)
    assert project.root == renewal_project.resolve()
    assert project.home == (renewal_project / ".serinus").resolve()
    assert project.problem_names() == ["renewal"]


def test_a_home_that_is_typed_is_relative_to_where_one_stands(renewal_project: Path, tmp_path: Path) -> None:
    env = {"SERINUS_PROJECT": str(renewal_project), "SERINUS_HOME": "quick/home"}
    assert open_project(env, start=tmp_path).home == (tmp_path / "quick/home").resolve()


def test_environment_variables_decide_before_the_file(renewal_project: Path, tmp_path: Path) -> None:
    env = {
        "SERINUS_PROJECT": str(renewal_project),
        "SERINUS_HOME": str(tmp_path / "elsewhere"),
        "SERINUS_KFP_ENDPOINT": "http://127.0.0.1:1",
        "SERINUS_TRACKING_URI": "http://127.0.0.1:2",
        "SERINUS_ONLINE": "redis://127.0.0.1:3/0",
        "SERINUS_SALT": "a1b2c3d4",
    }
    project = open_project(env, start=tmp_path)
    assert project.home == (tmp_path / "elsewhere").resolve()
    assert project.profile.kfp_endpoint == "http://127.0.0.1:1"
    assert project.profile.mlflow == "http://127.0.0.1:2"
    assert online_address(project, "renewal") == "redis://127.0.0.1:3/0"
    services = deployer(project)
    services.want(RENEWAL, ModelRef("renewal", 1), "file:///b")
    assert services.service(RENEWAL) == Service(RENEWAL, "renewal", 1, "file:///b", "a1b2c3d4", "", 0, 1, "file:///b")


@pytest.mark.parametrize("change", [{"type": "redis", "connection_string": "127.0.0.1:3"}, {"type": "sqlite"}])
def test_another_store_of_feast_is_told_where_addresses_of_redis_belong(
    renewal_project: Path, change: dict[str, str]
) -> None:
    project = open_project({"SERINUS_PROJECT": str(renewal_project)})
    config = project.feature_repo / "feature_store.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"online_store": change}))
    with pytest.raises(UsageError, match="does not say where the online store is") as told:
        online_address(project, "renewal")
    assert "SERINUS_ONLINE" in told.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project", "is not valid TOML"),
        ("[project]\ntypo = 1", "has faults"),
        ("[profiles.embedded]\nhome = '.s'\nport = 1", "has faults"),
        ("[profiles.other]\nhome = '.s'", "no profile embedded"),
        ("[profiles.embedded]\nhome = '.s'\nbundle_store = 'shared'", "no bundle store shared"),
        (
            "[profiles.embedded]\nhome = '.s'\nbundle_stores = {x = 'ftp://h'}",
            "ftp://h is no address of a bundle store",
        ),
        ("[profiles.embedded]\nhome = '.s'\nbundle_stores = {'A b' = 'c'}", "has faults"),
    ],
    ids=["syntax", "layout", "profile", "unknown profile", "unknown store", "unknown kind of store", "name of a store"],
)
def test_a_broken_project_file_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "serinus.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_project({}, start=tmp_path)


def test_a_home_in_which_mlflow_would_keep_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serinus.toml").write_text("")
    with pytest.raises(UsageError, match="can be no home"):
        open_project({"SERINUS_HOME": "what?"}, start=tmp_path)


STORES = """
[profiles.embedded]
home = ".serinus"
bundle_store = "shared"
[profiles.embedded.bundle_stores]
shared = "../bundles"
other = "file:///srv/bundles"
"""


def test_bundle_stores_of_the_project_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/serinus.toml").write_text(STORES)
    profile = open_project({}, start=tmp_path / "project").profile
    assert profile.bundle_store == "shared"
    assert profile.bundle_stores == {"shared": str(tmp_path / "bundles"), "other": "file:///srv/bundles"}
    digest = "0" * 64
    home = profile.stores().address(f"bundles://home/toy/{digest}")
    assert home == f"file://{tmp_path}/project/.serinus/bundles/toy/{digest}"


def test_bundle_stores_of_the_environment_decide_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "serinus.toml").write_text(STORES)
    env = {"SERINUS_BUNDLE_STORES": "home=elsewhere,shared=file:///mnt/b", "SERINUS_BUNDLE_STORE": "home"}
    profile = open_project(env, start=tmp_path).profile
    assert profile.bundle_store == "home"
    assert profile.bundle_stores == {
        "home": str(tmp_path / "elsewhere"), "shared": "file:///mnt/b", "other": "file:///srv/bundles",
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"SERINUS_BUNDLE_STORES: /mnt/b is not name=address"):
        open_project({"SERINUS_BUNDLE_STORES": "/mnt/b"}, start=tmp_path)


def test_outside_a_project_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no serinus\.toml") as raised:
        open_project({}, start=tmp_path)
    assert "SERINUS_PROJECT" in raised.value.hint


def test_an_unknown_problem_names_the_known_ones(renewal_project: Path) -> None:
    with pytest.raises(NotFound, match="no problem retial") as raised:
        open_project().problem("retial")
    assert "known: renewal" in raised.value.hint


def test_a_card_must_carry_the_name_of_its_folder(renewal_project: Path) -> None:
    (renewal_project / "problems/renewal").rename(renewal_project / "problems/other")
    with pytest.raises(CardError, match="calls itself renewal"):
        open_project().problem("other")


def test_yaml_faults_are_told_with_their_place(renewal_project: Path) -> None:
    (renewal_project / "problems/renewal/problem.yaml").write_text("name: [unclosed")
    with pytest.raises(CardError, match="is not valid YAML") as raised:
        open_project().problem("renewal")
    assert "line 1" in raised.value.cause


def test_modules_of_two_projects_do_not_meet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "toy").mkdir(parents=True)
        (tmp_path / name / "toy/dataset.py").write_text(f"WHO = {name!r}\n")
    assert [load_module(tmp_path / name / "toy/dataset.py").WHO for name in ("a", "b")] == ["a", "b"]


def test_a_step_leaves_its_facts(renewal_project: Path) -> None:
    with step("prepare", "renewal", "job-1") as context:
        context.facts["rows"] = 5
    record = Journal(renewal_project / ".serinus", "renewal", "job-1").read()
    assert [(one.name, one.status, one.facts) for one in record.steps] == [("prepare", "ok", {"rows": 5})]
    assert record.ids == {"pipeline_run": "job-1"}
    assert record.failure() is None


def test_a_failed_step_leaves_headline_cause_and_hint(renewal_project: Path) -> None:
    with pytest.raises(DataError), step("prepare", "renewal", "job-1"):
        raise DataError("no rows in x.csv", cause="0 bytes", hint="export it again")
    failure = Journal(renewal_project / ".serinus", "renewal", "job-1").read().failure()
    assert failure is not None
    assert failure.error is not None
    assert (failure.error.headline, failure.error.cause, failure.error.hint, failure.error.exit_code) == (
        "no rows in x.csv", "0 bytes", "export it again", 3,
    )  # fmt: skip


def test_an_unknown_fault_leaves_a_record_too(renewal_project: Path) -> None:
    with pytest.raises(ZeroDivisionError), step("prepare", "renewal", "job-1"):
        _ = 1 / 0
    failure = Journal(renewal_project / ".serinus", "renewal", "job-1").read().failure()
    assert failure is not None
    assert failure.error is not None
    assert failure.error.headline == "step prepare broke: ZeroDivisionError: division by zero"


def test_in_a_process_of_its_own_a_known_fault_is_an_exit_code(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit) as raised, step("prepare", "renewal", "job-1"):
        raise DataError("no rows", hint="export it again")
    assert raised.value.code == 3
    words = "serinus: step prepare failed with exit code 3\nno rows\nexport it again\n"
    assert capsys.readouterr().err == words


def test_a_home_that_cannot_be_written_is_told_before_the_work(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may make a folder there, not even root."""
    place = "/sys/serinus"
    monkeypatch.setenv("SERINUS_HOME", place)
    with pytest.raises(UsageError, match=f"no access to {place}") as raised, step("prepare", "renewal", "job-1"):
        pytest.fail("the step began")
    assert "user" in raised.value.cause
    for word in ("fsGroup", "SERINUS_HOME"):
        assert word in raised.value.hint
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit) as ended, step("prepare", "renewal", "job-1"):
        pytest.fail("the step began")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("serinus: step prepare failed with exit code 2\nno access to")


def test_a_place_that_a_step_may_not_use_is_a_known_fault(renewal_project: Path) -> None:
    with pytest.raises(UsageError, match="no access to /sys/bundles"), step("prepare", "renewal", "job-1"):
        Path("/sys/bundles").mkdir()
    failure = Journal(renewal_project / ".serinus", "renewal", "job-1").read().failure()
    assert failure is not None
    assert failure.error is not None
    assert failure.error.headline == "no access to /sys/bundles"


def test_a_project_file_with_faults_is_told_in_a_process_of_its_own(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERINUS_PROFILE", "nowhere")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit) as ended, step("prepare", "renewal", "job-1"):
        pytest.fail("the step began")
    assert ended.value.code == 2
    assert "no profile nowhere in serinus.toml" in capsys.readouterr().err


def test_the_name_of_a_local_run_comes_from_the_environment(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERINUS_RUN", "mine")
    with step("prepare", "renewal", "job-1") as context:
        assert context.run == "mine"


def test_imports_are_counted_within_the_step(renewal_project: Path) -> None:
    with step("prepare", "renewal", "job-1"):
        import colorsys  # noqa: F401 - any module that nothing else imports
    record = Journal(renewal_project / ".serinus", "renewal", "job-1").read().steps[0]
    assert 0 < record.import_seconds <= record.seconds


def test_steps_are_read_in_the_order_of_the_pipeline(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "toy", "r")
    for name in ("report", "train_linear", "prepare", "evaluate", "contract_raw"):
        journal.write(StepRecord(name=name, status="ok", started_at=datetime(2026, 1, 1, tzinfo=UTC), seconds=1))
    names = [one.name for one in journal.read().steps]
    assert names == ["prepare", "contract_raw", "train_linear", "evaluate", "report"]


def test_a_record_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "toy", "r")
    DISK.replace(tmp_path / "runs/r/steps/prepare.json", '{"name": "prepare"')
    assert journal.read().steps == ()


def test_the_wanted_version_is_written_once(tmp_path: Path) -> None:
    services = FileDeployer(tmp_path)
    assert services.service(TOY) is None
    services.want(TOY, ModelRef("toy", 3), "file:///b")
    before = (tmp_path / "default/toy/service.json").read_text()
    services.want(TOY, ModelRef("toy", 3), "file:///b")
    assert (tmp_path / "default/toy/service.json").read_text() == before
    first = services.service(TOY)
    services.want(TOY, ModelRef("toy", 4), "file:///c")
    second = services.service(TOY)
    assert first is not None
    assert second == Service(TOY, "toy", 4, "file:///c", first.salt, "", 0, 3, "file:///b")
    assert len(first.salt) == 16


def test_a_damaged_service_file_is_told(tmp_path: Path) -> None:
    DISK.replace(tmp_path / "default/toy/service.json", "{}")
    with pytest.raises(DataError, match="is damaged"):
        FileDeployer(tmp_path).service(TOY)


def test_the_summary_of_a_run_that_failed_early_invents_nothing(renewal_project: Path) -> None:
    with pytest.raises(DataError), step("prepare", "renewal", "job-1"):
        raise DataError("no rows")
    card = open_project().problem("renewal").card
    found = summarize(Journal(renewal_project / ".serinus", "renewal", "job-1").read(), card)
    assert found["candidates"] == []
    assert found["gates"] == []
    assert found["rollouts"] == []
    assert found["model"] == {"name": None, "version": None, "bundle_hash": None}
    assert found["failure"]["headline"] == "no rows"


def _gates(**by_candidate: list[dict[str, str]]) -> StepRecord:
    facts = {"by_candidate": by_candidate, "chosen": "gbdt"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return StepRecord(name="gates", status="ok", started_at=at, seconds=1, facts=facts)


def test_the_summary_shows_the_gates_of_whatever_is_registered(renewal_project: Path) -> None:
    journal = Journal(renewal_project / ".serinus", "renewal", "r")
    failed = {"name": "calibrated", "outcome": "fail", "severity": "warning"}
    journal.write(_gates(linear=[failed]))
    found = summarize(journal.read(), open_project().problem("renewal").card)
    assert found["gates"] == [{"candidate": "linear", "name": "calibrated", "verdict": "fail", "severity": "warning"}]


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({}, ""),
        ({"serinus.gate_warnings": "0", "serinus.data_warnings": "0", "serinus.failed_warnings": ""}, ""),
        ({"serinus.gate_warnings": "1", "serinus.failed_warnings": "calibrated"}, "calibrated"),
        ({"serinus.gate_warnings": "2"}, "2 gates"),
        ({"serinus.failed_warnings": "a, b", "serinus.data_warnings": "3"}, "a, b, 3 of the data contract"),
    ],
)
def test_a_version_tells_its_failed_warnings(tags: dict[str, str], told: str) -> None:
    version = ModelVersion("toy", 1, "run", "file:///b", datetime(2026, 1, 1, tzinfo=UTC), tags)
    assert version.warnings == told


def test_failed_warnings_are_known_without_the_registry(renewal_project: Path) -> None:
    project = open_project()
    tags = {"serinus.failed_warnings": "calibrated"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    remember(project, ModelVersion("renewal", 2, "run", "file:///b", at, tags))
    remember(project, ModelVersion("renewal", 3, "run", "file:///b", at))
    told = [failed_warnings(project, "renewal", version) for version in ("2", "3", "4", "../2", "")]
    assert told == ["calibrated", "", "", "", ""]
