"""Two services of one problem and one of another live in one home and never meet."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.core.errors import Conflict, NotFound, UsageError
from serinus.core.events import Exposure, Outcome, Stream, exposure_id
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.memory import ServiceMemory, began, counted, remembered
from serinus.core.rollout.ports import Change
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout import local_store
from serinus.wiring.adapters import deployer, registry
from serinus.wiring.evidence import event_log
from serinus.wiring.project import open_project
from serinus.wiring.rollouts import Hosting, _maker, hosted
from serinus.wiring.services import (
    asked,
    card_of,
    events_folder,
    places,
    require_free,
    rollouts,
    service_of,
    service_store,
    services_of,
    wanted,
)
from serinus.wiring.serving import Wish, serve_settings

USUAL, OTHER, LEAVERS = (ServiceRef.parse(one) for one in ("renewal", "shop/renewal-b", "leavers"))
ALL = (USUAL, OTHER, LEAVERS)
START = 1_735_900_000.0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def home(renewal_project: Path) -> Path:
    """Each service wants version 2 after version 1 of its problem."""
    _second_problem(renewal_project)
    files = deployer(open_project())
    for service, problem in zip(ALL, ("renewal", "renewal", "leavers"), strict=True):
        for version in (1, 2):
            files.want(service, ModelRef(problem, version), f"file:///bundles/{problem}/b{version}")
    return renewal_project / ".serinus"


def _second_problem(project: Path) -> None:
    shutil.copytree(project / "problems/renewal", project / "problems/leavers")
    card = project / "problems/leavers/problem.yaml"
    card.write_text(card.read_text().replace("name: renewal", "name: leavers", 1))


def _rolling(service: ServiceRef) -> RolloutSpec:
    """A rollout of what the service wants, in its first step."""
    project = open_project()
    wish, name = wanted(project, service), asked(project, service).rollout
    spec = _maker(card_of(project, service), Hosting(now=lambda: START, new_seed=lambda: 7))(name, wish, wish.first)
    state = RolloutState.first(spec).changed(phase=Phase.STEPPING, step=0, started_at=START)
    memory = began(counted(ServiceMemory(stable=wish.first), wish), spec)
    _written(service, Change(made=spec, state=state, memory=memory))
    return spec


def _written(service: ServiceRef, change: Change) -> None:
    store = service_store(open_project(), service)
    store.save(change, store.load().token)


def _exposed(service: ServiceRef, request: str) -> None:
    revision = wanted(open_project(), service).revision
    row = Exposure(
        id=exposure_id(request, revision.name), request_id=request, service=str(service), revision=revision.name,
        version="2", route="", forced_arm="", entity=f"A{request}", unit=f"A{request}", bucket=7, bucket_check="ok",
        at=START, as_of=START, items=1, cold_start=False, unknown_items=0, lookups=1, defaulted=0, latency_ms=1.0,
        error="", covariates=(), writer="w", sequence=0,
    )  # fmt: skip
    log = event_log(open_project(), service)
    log.append(Stream.EXPOSURES, [row])
    log.append(Stream.OUTCOMES, [Outcome(f"o-{request}", "churned", request, "", "", 0.0, START + 60, START + 60)])


def test_each_wants_its_own_version_with_a_salt_of_its_own(home: Path) -> None:
    project, files = open_project(), deployer(open_project())
    before = {one: files.service(one) for one in (USUAL, LEAVERS)}
    files.want(OTHER, ModelRef("renewal", 9), "file:///bundles/renewal/b9")
    files.retry(OTHER)
    assert {one: files.service(one) for one in before} == before
    assert (service_of(project, OTHER).version, service_of(project, OTHER).retry) == (9, 1)
    assert len({service_of(project, one).salt for one in ALL}) == 3
    assert files.known() == sorted(ALL)
    assert [one.ref for one in services_of(project, "renewal")] == [USUAL, OTHER]
    assert service_of(project, LEAVERS).problem == "leavers"
    assert wanted(project, OTHER).revision.name.startswith("renewal-b-v9-")


def test_folders_are_below_namespace_and_name(home: Path) -> None:
    project = open_project()
    assert places(project, USUAL).folder == home / "services/default/renewal"
    assert places(project, OTHER).folder == home / "services/shop/renewal-b"
    assert (places(project, OTHER).folder / "service.json").is_file()
    assert events_folder(project, OTHER) == home / "events/shop/renewal-b"


def test_a_predictor_is_told_of_its_service_and_reads_the_features_of_the_problem(home: Path) -> None:
    usual, other = (
        serve_settings(open_project(), Wish(one), host="127.0.0.1", http_port=1, grpc_port=0) for one in (USUAL, OTHER)
    )
    assert (usual.service, other.service, other.version) == (USUAL, OTHER, 2)
    assert usual.online == other.online
    assert {usual.events, other.events} == {str(home / "events/default/renewal"), str(home / "events/shop/renewal-b")}
    assert usual.salt != other.salt


def test_what_people_ask_of_one_rollout_the_others_do_not_hear(home: Path) -> None:
    specs = {one: _rolling(one) for one in ALL}
    assert run("rollout", "abort", "shop/renewal-b").exit_code == 0
    aborted = {one: rollouts(open_project(), one).intents(spec.name).abort for one, spec in specs.items()}
    assert aborted == {USUAL: False, OTHER: True, LEAVERS: False}
    assert all(rollouts(open_project(), one).names() == [spec.name] for one, spec in specs.items())
    found = json.loads(run("rollout", "get", "shop/renewal-b", "--json").stdout)
    assert (found["spec"]["service"], found["spec"]["candidate"]["model"]["name"]) == ("shop/renewal-b", "renewal")


def test_a_retry_is_of_one_service(home: Path) -> None:
    for service in (USUAL, OTHER):
        spec, memory = _rolling(service), service_store(open_project(), service).memory()
        ended = RolloutState.first(spec).changed(phase=Phase.ROLLED_BACK, started_at=START, ended_at=START)
        _written(service, Change(state=ended, memory=remembered(memory, spec, ended)))
    assert run("rollout", "retry", "shop/renewal-b").exit_code == 0
    assert [service_of(open_project(), one).retry for one in (USUAL, OTHER)] == [0, 1]


def test_each_has_a_controller_and_a_route_of_its_own(home: Path) -> None:
    project = open_project()
    with hosted(project, USUAL, Hosting()) as mine, hosted(project, OTHER, Hosting()) as theirs:
        with pytest.raises(Conflict, match="runs the rollouts of shop/renewal-b"), hosted(project, OTHER, Hosting()):
            pass
        assert mine.arms.running() == theirs.arms.running() == []
    route = Route(service=OTHER, rollout="r", number=1, stable="renewal-b-v1-abcdef", seed=7, hold_back=1)
    assert Route.model_validate_json(route.model_dump_json()).service == OTHER
    assert len({places(project, one).route for one in ALL}) == 3


def test_kpis_and_traces_are_of_the_visits_of_one_service(home: Path) -> None:
    _exposed(USUAL, "r1")
    _exposed(OTHER, "r2")
    for service, mine, not_mine in (("renewal", "r1", "r2"), ("shop/renewal-b", "r2", "r1")):
        assert json.loads(run("trace", service, mine, "--json").stdout)["request"][0]["request_id"] == mine
        assert run("trace", service, not_mine).exit_code == 4
        found = json.loads(run("kpis", service, "--as-of", "2025-06-01", "--json").stdout)
        asked = wanted(open_project(), ServiceRef.parse(service)).revision
        assert {one["revision"] for one in found["kpis"]} == {asked.name}
        assert found["counters"]["exposures"] == 1
    assert json.loads(run("kpis", "leavers", "--as-of", "2025-06-01", "--json").stdout)["counters"]["exposures"] == 0


def test_a_service_that_does_not_exist_is_told_with_those_that_do(home: Path) -> None:
    for command in (("serve",), ("collect",), ("kpis",), ("rollout", "get"), ("rollout", "run"), ("rollout", "start")):
        found = run(*command, "renewal-c")
        assert found.exit_code == 4, command
        assert "no service renewal-c" in found.stderr
        assert "leavers, renewal, shop/renewal-b" in found.stderr.replace("\n", " ")
        assert "--problem" in found.stderr
    assert not (home / "services/default/renewal-c").exists()


@pytest.mark.parametrize("name", ["Renewal", "a/b/c", "renewal_b", "../renewal", ""])
@pytest.mark.parametrize("command", [("serve",), ("kpis",), ("rollout", "start"), ("bucket", "A1")])
def test_what_can_be_no_name_of_a_service_ends_with_2(home: Path, command: tuple[str, ...], name: str) -> None:
    found = run(*command[:1], name, *command[1:]) if command[0] == "bucket" else run(*command, name)
    assert found.exit_code == 2
    assert "is no name of a service" in found.stderr


def test_start_makes_a_service_of_a_version_that_another_one_had(home: Path) -> None:
    found = run("rollout", "start", "renewal-c", "--problem", "renewal", "--version", "1", "--json")
    assert json.loads(found.stdout)["revision"].startswith("renewal-c-v1-")
    made = service_of(open_project(), ServiceRef.parse("renewal-c"))
    assert (made.problem, made.version, made.first_version) == ("renewal", 1, 1)
    again = run("rollout", "start", "renewal-c", "--problem", "renewal", "--version", "2")
    assert again.exit_code == 0
    assert service_of(open_project(), made.ref) == replace(made, version=2, storage_uri="file:///bundles/renewal/b2")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("renewal-c", "--problem", "renewal"), 2, "no version of renewal was named"),
        (("renewal-c", "--problem", "nothing", "--version", "1"), 4, "no problem nothing"),
        (("renewal-c", "--problem", "renewal", "--version", "7"), 4, "no version"),
        (("shop/renewal-b", "--problem", "leavers", "--version", "1"), 6, "is one of renewal, not of leavers"),
    ],
)
def test_a_new_service_needs_a_version_of_its_problem(
    home: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    before = deployer(open_project()).known()
    found = run("rollout", "start", *arguments)
    assert found.exit_code == code, found.stderr
    assert told in found.stderr.replace("\n", " ")
    assert deployer(open_project()).known() == before


def test_the_name_of_a_problem_is_kept_for_its_usual_service(renewal_project: Path) -> None:
    _second_problem(renewal_project)
    with pytest.raises(Conflict, match="service leavers is the usual one of leavers, not of renewal"):
        require_free(open_project(), LEAVERS, "renewal")
    require_free(open_project(), ServiceRef("shop", "leavers"), "renewal")
    found = run("pipeline", "run", "renewal", "--service", "leavers")
    assert found.exit_code == 6
    assert not (renewal_project / ".serinus/runs").exists()
    with pytest.raises(NotFound, match="nothing is deployed for leavers yet"):
        service_of(open_project(), LEAVERS)


def test_the_versions_of_a_model_say_which_service_wants_and_serves_them(home: Path) -> None:
    project = open_project()
    for version in (1, 2):
        uri = f"file:///bundles/renewal/b{version}"
        registry(project).register("renewal", run_id="0" * 32, storage_uri=uri, tags={})
    for service in (USUAL, OTHER):
        _written(service, Change(memory=ServiceMemory(stable=wanted(project, service).first)))
    deployer(project).want(OTHER, ModelRef("renewal", 1), "file:///bundles/renewal/b1")
    found = json.loads(run("model", "list", "renewal", "--json").stdout)
    assert (found["wanted_version"], found["gone"]) == (2, [])
    assert {name: one["wanted_version"] for name, one in found["services"].items()} == {
        "default/renewal": 2,
        "shop/renewal-b": 1,
    }
    shown = run("model", "list", "renewal").stdout
    assert "serves; shop/renewal-b:" in " ".join(shown.split())


def test_the_salt_of_the_profile_is_that_of_the_service_that_it_names(
    renewal_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pods of the chart have it: predictors of the release compute buckets with it, whatever its namespace."""
    monkeypatch.setenv("SERINUS_SALT", "a1b2c3d4")
    monkeypatch.setenv("SERINUS_SERVICE", "serinus/renewal")
    files, found = deployer(open_project()), []
    for service in (ServiceRef("serinus", "renewal"), USUAL, OTHER):
        files.want(service, ModelRef("renewal", 1), "file:///b")
        found.append(service_of(open_project(), service).salt)
    assert found[0] == "a1b2c3d4"
    assert len(set(found)) == 3


def test_a_folder_that_no_service_can_have_made_is_none(home: Path) -> None:
    stray = home / "services/default/Not_One/service.json"
    stray.parent.mkdir()
    stray.write_text("{}")
    assert deployer(open_project()).known() == sorted(ALL)
    with pytest.raises(UsageError):
        ServiceRef.parse("Not_One")


def test_a_tick_parses_each_rollout_once_however_many_there_were(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, parsed = USUAL, list[Path]()
    spec = _rolling(service)
    for number in range(2, 12):
        rollouts(open_project(), service).create(spec.model_copy(update={"name": f"{spec.candidate.name}-{number}"}))
    plain = local_store.read_document
    monkeypatch.setattr(local_store, "read_document", lambda path, kind: parsed.append(path) or plain(path, kind))
    store = service_store(open_project(), service)
    token = store.load().token
    for _ in range(5):
        with store.fence(token):
            pass
    specs = [path for path in parsed if path.name == "spec.json"]
    assert len(specs) == len(set(specs)) == 11
    deployer(open_project()).retry(service)
    with pytest.raises(Conflict), store.fence(token):
        pass
