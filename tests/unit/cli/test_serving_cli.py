"""`serinus bucket|serve|predict|outcomes|kpis|trace` on a service made by hand: what they say, and what they refuse."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.client import bucket_of
from serinus.core.errors import NotFound, SerinusError, Unavailable, UsageError
from serinus.core.events import Decided, Exposure, Inputs, Outcome, Scores, Stream, exposure_id
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion
from serinus.core.rollout.memory import ServiceMemory, began, counted, remembered
from serinus.core.rollout.ports import Change
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.evidence.collector import CollectorSettings, make_app
from serinus.evidence.intake import OutcomeNames
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.model.bundle import Manifest
from serinus.wiring.adapters import bundle_store, deployer
from serinus.wiring.evidence import event_log
from serinus.wiring.project import open_project
from serinus.wiring.rollouts import Hosting, _maker
from serinus.wiring.services import asked, service_store, wanted
from serinus.wiring.serving import Wish, choose, collect_settings, predictor_command, serve_settings, settings_of
from tests.linear_bundle import linear_bundle
from tests.servers import free_port, wait_for_port

RENEWAL = ServiceRef("default", "renewal")

START = datetime.fromisoformat("2025-01-03T10:00:00+00:00").timestamp()
DAY = 86_400.0


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


@pytest.fixture
def deployed(renewal_project: Path) -> Path:
    """A service that wants version 2."""
    deployer(open_project()).want(RENEWAL, ModelRef("renewal", 2), "file:///bundles/b2")
    return renewal_project


def _salt() -> str:
    found = deployer(open_project()).service(RENEWAL)
    assert found is not None
    return found.salt


@pytest.fixture
def logged(deployed: Path) -> Path:
    """Two scored accounts, one of which left within the month; one outcome came too late."""
    log = event_log(open_project(), RENEWAL)
    log.append(Stream.SCORES, [Scores(exposure_id(r, "renewal-v2-aaaaaa"), r, ("",), (0.25,)) for r in ("r1", "r2")])
    who = exposure_id("r1", "renewal-v2-aaaaaa"), "r1", "renewal-v2-aaaaaa"
    log.append(Stream.DECISIONS, [Decided(*who, START, "block", ("too new",), ("rule-7",), 0.5, ())])
    log.append(Stream.INPUTS, [Inputs(*who, START, START, 0, "", (0.5, 3.0), '{"amount":3.0}')])
    log.append(Stream.EXPOSURES, [_exposure(number) for number in (1, 2)])
    happened = [("o1", "r1", DAY), ("o2", "r2", 31 * DAY)]
    log.append(
        Stream.OUTCOMES,
        [Outcome(i, "churned", r, "", "", 0.0, START + after, START + after) for i, r, after in happened],
    )
    return deployed


def _exposure(number: int) -> Exposure:
    return Exposure(
        id=exposure_id(f"r{number}", "renewal-v2-aaaaaa"), request_id=f"r{number}", service="default/renewal",
        revision="renewal-v2-aaaaaa", version="2", route="", forced_arm="", entity=f"A{number}", unit=f"A{number}",
        bucket=7, bucket_check="ok", at=START, as_of=START, items=1, cold_start=False, unknown_items=0, lookups=1,
        defaulted=0, latency_ms=1.0, error="", covariates=(), writer="w", sequence=number - 1,
    )  # fmt: skip


def test_the_bucket_is_that_of_the_client(deployed: Path) -> None:
    for number in range(5):
        found = run("bucket", "renewal", f"A{number}")
        assert found.stdout == f"{bucket_of(_salt(), f'A{number}'):03d}\n"
    document = json.loads(run("bucket", "renewal", "A0", "--json").stdout)
    assert document == {"unit": "A0", "bucket": f"{bucket_of(_salt(), 'A0'):03d}", "salt": _salt()}


@pytest.mark.parametrize(
    "command",
    [
        ("bucket", "renewal", " A0"),
        ("trace", "renewal", "r1 "),
        ("predict", "renewal", "--entity", "A0\u200b"),
        ("predict", "renewal", "--entity", "A0", "--context", "amount=1_0"),
        ("kpis", "renewal", "--as-of", "20250301"),
    ],
)
def test_what_is_not_in_its_written_form_ends_with_2(deployed: Path, command: tuple[str, ...]) -> None:
    found = run(*command)
    assert found.exit_code == 2, found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", [("bucket", "renewal", "A0"), ("serve", "renewal"), ("collect", "renewal")])
def test_without_a_service_there_is_nothing_to_do(renewal_project: Path, command: tuple[str, ...]) -> None:
    found = run(*command)
    assert found.exit_code == 4
    assert "serinus pipeline run renewal" in found.stderr


def test_a_service_is_served_with_its_salt_and_a_revision_of_its_own(deployed: Path) -> None:
    project = open_project()
    wanted = serve_settings(project, Wish(RENEWAL), host="127.0.0.1", http_port=1, grpc_port=0)
    assert (wanted.version, wanted.storage_uri, wanted.salt) == (2, "file:///bundles/b2", _salt())
    assert wanted.revision.startswith("renewal-v2-")
    assert wanted.events == str(project.home / "events/default/renewal")
    assert not wanted.accept_event_time
    again = serve_settings(project, Wish(RENEWAL, version="2"), host="127.0.0.1", http_port=2, grpc_port=0)
    assert again.revision == wanted.revision


def test_a_folder_is_served_only_for_its_own_problem(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serinus.wiring.serving.content_hash", lambda folder: "c0ffee00")
    monkeypatch.setattr(
        "serinus.wiring.serving.read_manifest", lambda folder: Manifest.model_construct(problem=folder.name)
    )
    settings = serve_settings(
        open_project(), Wish(RENEWAL, bundle=str(tmp_path / "renewal")), host="h", http_port=1, grpc_port=0
    )
    assert (settings.version, settings.salt) == ("local-c0ffee", _salt())
    with pytest.raises(UsageError, match="of problem other, not renewal"):
        serve_settings(
            open_project(), Wish(RENEWAL, bundle=str(tmp_path / "other")), host="h", http_port=1, grpc_port=0
        )
    assert run("serve", "renewal", "--version", "1", "--bundle", "x").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "renewal", "--port", "0"),
        ("serve", "renewal", "--port", "65536"),
        ("serve", "renewal", "--grpc-port", "-1"),
        ("serve", "renewal", "--port", "9000", "--grpc-port", "9000"),
        ("collect", "renewal", "--port", "70000"),
    ],
)
def test_a_port_that_cannot_be_is_wrong_input(deployed: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_taken_port_of_the_collector_is_a_conflict(deployed: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = run("collect", "renewal", "--port", str(taken.getsockname()[1]))
    assert (found.exit_code, found.stdout) == (6, "")
    assert "is taken" in found.stderr


def _nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_a_predictor_that_does_not_answer_ends_with_5(deployed: Path) -> None:
    found = run("predict", "renewal", "--entity", "A0", "--endpoint", _nobody())
    assert found.exit_code == 5
    assert "`serinus serve` starts a predictor" in found.stderr
    assert run("predict", "renewal", "--entity", "A0", "--endpoint", "nowhere").exit_code == 2


@pytest.mark.parametrize("value", ["amount=much", "amount=" + "[" * 50_000])
def test_a_context_that_is_no_number_is_refused_before_anyone_is_asked(deployed: Path, value: str) -> None:
    found = run("predict", "renewal", "--entity", "A0", "--context", value, "--endpoint", "http://127.0.0.1:1")
    assert found.exit_code == 2
    assert "NAME=NUMBER" in found.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{", 2, "line 1 is not JSON"),
        ("[" * 50_000, 2, "line 1 is not JSON"),
        ('\n["a"]', 2, "line 2 is not an object"),
        ('{"id": "o"}', 5, "did not answer"),
    ],
)
def test_outcomes_that_cannot_be_sent_are_told(
    monkeypatch: pytest.MonkeyPatch, text: str, code: int, said: str
) -> None:
    monkeypatch.setattr("serinus.client.client.time.sleep", lambda seconds: None)
    found = run("outcomes", "send", "-", "--collector", _nobody(), given=text)
    assert found.exit_code == code
    assert said in found.stderr


@pytest.fixture
def collector(deployed: Path) -> Iterator[str]:
    """The address of a collector of the service, on a thread."""
    settings = collect_settings(open_project(), RENEWAL, host="127.0.0.1", port=free_port(), accept_event_time=False)
    names = OutcomeNames(settings.label, settings.outcomes)
    served = make_app(ParquetEventLog(Path(settings.folder), writer="c"), CollectorSettings(names=names))
    server = uvicorn.Server(uvicorn.Config(served, port=settings.port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for_port(settings.port)
    yield f"http://127.0.0.1:{settings.port}"
    server.should_exit = True
    thread.join()


def test_outcomes_that_the_card_does_not_know_are_told_by_line_and_end_with_2(collector: str) -> None:
    good = {"id": "o1", "name": "churned", "unit": "u", "as_of": 1.0}
    lines = [json.dumps(one) for one in (good, good | {"id": "o2"}, good | {"id": "o3", "name": "chruned"})]
    found = run("outcomes", "send", "-", "--collector", collector, "--batch", "2", given="\n\n".join(lines))
    assert found.exit_code == 2
    assert found.stderr.splitlines() == [
        "error: the collector refused outcomes; 2 outcomes before them were taken",
        "line 5 name: the card knows churned, not chruned",
    ]
    again = run("outcomes", "send", "-", "--collector", collector, "--json", given="\n".join(lines[:2]))
    assert json.loads(again.stdout) == {"sent": 2, "accepted": 0}


def test_a_file_of_outcomes_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    assert run("outcomes", "send", str(tmp_path / "none.jsonl")).exit_code == 2


def test_kpis_close_at_the_time_that_is_asked_for(logged: Path) -> None:
    before = json.loads(run("kpis", "renewal", "--as-of", "2025-01-20", "--json").stdout)
    assert {one["name"]: one["requests"] for one in before["kpis"]} == {"error_rate": 2, "log_loss": 0}
    assert before["counters"]["open"] == 2
    shown = run("kpis", "renewal", "--as-of", "2025-03-01")
    assert "1 late" in shown.stdout
    after = json.loads(run("kpis", "renewal", "--as-of", "2025-03-01", "--json").stdout)
    figures = {one["name"]: one for one in after["kpis"]}
    assert figures["log_loss"]["requests"] == 2
    assert figures["log_loss"]["estimate"] == pytest.approx((1.3862943611 + 0.2876820724) / 2)
    assert run("kpis", "renewal", "--as-of", "soon").exit_code == 2


def test_kpis_of_two_revisions_are_never_in_one_figure(logged: Path) -> None:
    other = replace(
        _exposure(3), revision="renewal-v2-ffffff", id=exposure_id("r3", "renewal-v2-ffffff"), error="BundleError",
        as_of=START + DAY, at=START + DAY,
    )  # fmt: skip
    event_log(open_project(), RENEWAL).append(Stream.EXPOSURES, [other])
    asked = ("kpis", "renewal", "--as-of", "2025-03-01")
    found = json.loads(run(*asked, "--json").stdout)["kpis"]
    errors = {one["revision"]: one for one in found if one["name"] == "error_rate"}
    assert {name: one["estimate"] for name, one in errors.items()} == {
        "renewal-v2-aaaaaa": 0.0,
        "renewal-v2-ffffff": 1.0,
    }
    for one in errors.values():
        assert one["low"] < one["high"]
        assert (one["arm"], one["role"]) == ("alone", "primary")
    shown = run(*asked).stdout
    assert "renewal-v2-aaaaaa\n" in shown
    assert "renewal-v2-ffffff\n" in shown
    assert "0 to 0 " not in shown
    by_day = json.loads(run(*asked, "--by", "day", "--json").stdout)["kpis"]
    assert {one["day"] for one in by_day} == {"2025-01-03", "2025-01-04"}
    (late,) = json.loads(run(*asked, "--since", "2025-01-04", "--json").stdout)["kpis"][:1]
    assert late["revision"] == "renewal-v2-ffffff"
    assert run(*asked, "--by", "weather").exit_code == 2


class Versions:
    """A registry of version 2 alone."""

    def version(self, model: str, which: str) -> ModelVersion:
        if which != "2":
            raise NotFound(f"{model} has no version {which}")
        tags = {"serinus.bundle_hash": "b2", "serinus.pipeline_run": "run-7", "serinus.snapshot_hash": "s1"}
        return ModelVersion(model, 2, "mlflow-5", "file:///bundles/b2", datetime.now(UTC), tags)


def test_a_trace_goes_from_the_request_to_the_snapshot(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serinus.wiring.trace.registry", lambda project: Versions())
    run("kpis", "renewal", "--as-of", "2025-03-01")
    found = json.loads(run("trace", "renewal", "r1", "--json").stdout)
    (request,) = found["request"]
    assert (request["request_id"], request["revision"], request["entity"]) == ("r1", "renewal-v2-aaaaaa", "A1")
    assert [one["name"] for one in found["outcomes"]] == ["churned"]
    (decision,), (fed,) = found["decision"], found["inputs"]
    assert (decision["action"], decision["reasons"], decision["propensity"]) == ("block", ["too new"], 0.5)
    assert (fed["position"], fed["context"]) == (0, '{"amount":3.0}')
    assert fed["fed"] == {"input 0": 0.5, "input 1": 3.0}  # no bundle is where the service says
    assert found["kpis"]["error_rate (renewal-v2-aaaaaa)"] == 0.0
    chain = found["model"][0]
    assert [chain[name] for name in ("model_version", "bundle", "mlflow_run", "pipeline_run", "data_snapshot")] == [
        2, "b2", "mlflow-5", "run-7", "s1",
    ]  # fmt: skip
    assert run("trace", "renewal", "r9").exit_code == 4


def test_a_trace_names_what_the_model_was_fed_as_its_bundle_does(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = linear_bundle(tmp_path / "made", "renewal", ("tenure", "amount"))
    uri = bundle_store(open_project()).put("renewal", made)

    class Stored(Versions):
        def version(self, model: str, which: str) -> ModelVersion:
            return replace(super().version(model, which), storage_uri=uri)

    monkeypatch.setattr("serinus.wiring.serving.registry", lambda project: Stored())
    monkeypatch.setattr("serinus.wiring.trace.registry", lambda project: Versions())
    (fed,) = json.loads(run("trace", "renewal", "r1", "--json").stdout)["inputs"]
    assert fed["fed"] == {"tenure": 0.5, "amount": 3.0}
    assert "tenure 0.5, amount 3" in " ".join(run("trace", "renewal", "r1").stdout.split())


def test_a_version_that_was_never_registered_is_not_served(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serinus.wiring.serving.registry", lambda project: Versions())
    with pytest.raises(NotFound):
        serve_settings(open_project(), Wish(RENEWAL, version="9"), host="h", http_port=1, grpc_port=0)


def test_what_a_replay_through_rollouts_would_not_heed_is_refused(deployed: Path) -> None:
    found = run("replay", "renewal", "--rollouts", "--endpoint", "http://127.0.0.1:1")
    assert found.exit_code == 2
    assert "--rollouts and --endpoint exclude each other" in found.stderr


def _promoted(problem: str, phase: Phase) -> None:
    """A service whose first version is 1, and a rollout of the wanted one that ended so."""
    project = open_project()
    service = ServiceRef.parse(problem)
    wish, name, card = wanted(project, service), asked(project, service).rollout, project.problem(problem).card
    spec = _maker(card, Hosting(now=lambda: 1e9, new_seed=lambda: 7))(name, wish, wish.first)
    state = RolloutState.first(spec).changed(phase=phase, started_at=1e9, ended_at=1e9)
    store = service_store(project, service)
    memory = began(counted(ServiceMemory(stable=wish.first), wish), spec)
    memory = remembered(memory, spec, state) if phase.ended else memory
    store.save(Change(made=spec, state=state, memory=memory), store.load().token)


@pytest.mark.parametrize(
    ("phase", "serves"),
    [
        (Phase.ROLLED_BACK, 1), (Phase.UNDECIDED, 1), (Phase.ABORTED, 1), (Phase.SUPERSEDED, 1),
        (Phase.STEPPING, 1), (Phase.PROMOTED, 2),
    ],
)  # fmt: skip
def test_served_is_what_is_in_service_not_what_a_rollout_refused(
    renewal_project: Path, phase: Phase, serves: int
) -> None:
    files = deployer(open_project())
    files.want(RENEWAL, ModelRef("renewal", 1), "file:///bundles/b1")
    files.want(RENEWAL, ModelRef("renewal", 2), "file:///bundles/b2", "make_data.py@abc")
    nothing = choose(open_project(), Wish(RENEWAL))
    assert (nothing.version, nothing.why) == (2, "wanted, and nothing serves yet")
    _promoted("renewal", phase)
    chosen = choose(open_project(), Wish(RENEWAL))
    assert (chosen.version, chosen.storage_uri) == (serves, f"file:///bundles/b{serves}")
    if serves == 1:
        assert chosen.why == f"in service; version 2 is wanted: {phase}"
        assert chosen.template == ""
    else:
        assert (chosen.why, chosen.template) == ("in service", "make_data.py@abc")
        project = open_project()
        settings = settings_of(project, Wish(RENEWAL), chosen, host="h", http_port=1, grpc_port=0)
        assert settings.revision == wanted(project, RENEWAL).revision.name
        assert predictor_command(project.root, chosen.template, settings)[1] == str(project.root / "make_data.py")
    asked = choose(open_project(), Wish(RENEWAL, version="2"))
    assert (asked.version, asked.why) == (2, "as asked")


@pytest.mark.parametrize("fault", [NotFound("it was deleted there"), Unavailable("MLflow does not answer")])
def test_a_version_that_the_service_had_is_found_without_the_registry(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, fault: SerinusError
) -> None:
    class Away:
        """MLflow, away or emptied."""

        def version(self, model: str, which: str) -> ModelVersion:
            raise fault

    monkeypatch.setattr("serinus.wiring.serving.registry", lambda project: Away())
    _promoted("renewal", Phase.PROMOTED)
    files = deployer(open_project())
    files.want(RENEWAL, ModelRef("renewal", 3), "file:///bundles/b3")
    found = choose(open_project(), Wish(RENEWAL, version="2"))
    assert (found.version, found.storage_uri) == (2, "file:///bundles/b2")
    started = json.loads(run("rollout", "start", "renewal", "--version", "2", "--json").stdout)
    assert started["revision"].startswith("renewal-v2-")
    with pytest.raises(type(fault)):
        choose(open_project(), Wish(RENEWAL, version="champion"))
