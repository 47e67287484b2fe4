"""`serinus rollout`: what is wanted, what is shown, how people steer, and what is refused; without any server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.core.card import Problem
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion
from serinus.core.rollout.memory import ServiceMemory, began, counted, remembered
from serinus.core.rollout.ports import Change
from serinus.core.rollout.spec import RolloutSpec, Said
from serinus.core.rollout.state import Entry, RolloutState
from serinus.core.words import Phase, Verdict
from serinus.wiring.adapters import deployer
from serinus.wiring.project import open_project
from serinus.wiring.rollouts import Hosting, _maker
from serinus.wiring.services import asked, rollouts, service_store, wanted
from serinus.wiring.warned import remember

RENEWAL = ServiceRef("default", "renewal")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def deployed(renewal_project: Path) -> Path:
    """A service whose first version is 1 and whose wanted one is 2."""
    files = deployer(open_project())
    files.want(RENEWAL, ModelRef("renewal", 1), "file:///b1")
    files.want(RENEWAL, ModelRef("renewal", 2), "file:///b2")
    return renewal_project


@pytest.fixture
def rolling(deployed: Path, renewal_card: Problem) -> Callable[..., RolloutSpec]:
    """Makes the rollout of the wanted revision, in a given phase, with given steps."""

    def make(phase: Phase, steps: list[dict[str, object]] | None = None, reason: str = "") -> RolloutSpec:
        project = open_project()
        wish, name = wanted(project, RENEWAL), asked(project, RENEWAL).rollout
        spec = _maker(renewal_card, Hosting(now=lambda: 1e9, new_seed=lambda: 7))(name, wish, wish.first)
        if steps is not None:
            policy = {**spec.policy.model_dump(), "steps": steps}
            spec = RolloutSpec.model_validate({**spec.model_dump(), "policy": policy})
        entry = Entry(at=1e9, step=0, event="look", verdict=Verdict.CONTINUE, reason="waits for units in this step")
        ended_at = 1e9 if phase.ended else None
        first = RolloutState.first(spec)
        state = first.changed(phase=phase, step=0, log=(entry,), ended_at=ended_at, reason=reason)
        store = service_store(project, RENEWAL)
        memory = began(counted(ServiceMemory(stable=wish.first), wish), spec)
        memory = remembered(memory, spec, state) if phase.ended else memory
        store.save(Change(made=spec, state=state, memory=memory), store.load().token)
        return spec

    return make


def test_start_says_what_is_wanted_and_how(deployed: Path) -> None:
    shutil.copy(deployed / "make_data.py", deployed / "entry.py")
    plain = json.loads(run("rollout", "start", "renewal", "--json").stdout)
    other = json.loads(run("rollout", "start", "renewal", "--predictor", "entry.py", "--json").stdout)
    assert plain["rollout"] == f"{wanted_name_of(plain['revision'], 2)}-1"
    assert other["revision"] != plain["revision"]
    service = deployer(open_project()).service(RENEWAL)
    assert service is not None
    assert service.template.startswith("entry.py@")
    (deployed / "entry.py").write_text("# changed\n")
    changed = json.loads(run("rollout", "start", "renewal", "--predictor", "entry.py", "--json").stdout)
    assert changed["revision"] not in (other["revision"], plain["revision"])


def wanted_name_of(name: str, version: int) -> str:
    assert name.startswith(f"renewal-v{version}-")
    return name


@pytest.mark.parametrize("arguments", [("--predictor", "nothing.py"), ("--version", "99")])
def test_what_does_not_exist_cannot_be_wanted(deployed: Path, arguments: tuple[str, str]) -> None:
    before = deployer(open_project()).service(RENEWAL)
    assert run("rollout", "start", "renewal", *arguments).exit_code == 4
    assert deployer(open_project()).service(RENEWAL) == before


@pytest.mark.parametrize("verb", ["get", "watch", "history", "pause", "resume", "abort", "approve"])
def test_without_a_rollout_there_is_nothing_to_steer(deployed: Path, verb: str) -> None:
    found = run("rollout", verb, "renewal")
    assert found.exit_code == 4
    assert "has no rollout yet" in found.stderr


def test_without_a_service_nothing_can_be_rolled_out(renewal_project: Path) -> None:
    assert run("rollout", "start", "renewal").exit_code == 4
    assert run("rollout", "retry", "renewal").exit_code == 4


def test_pause_resume_and_abort_are_intents_and_leave_the_state_alone(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.STEPPING)
    store = rollouts(open_project(), RENEWAL)
    before = store.state(spec.name)
    for verb, field, value in (("pause", "paused", True), ("resume", "paused", False), ("abort", "abort", True)):
        document = json.loads(run("rollout", verb, "renewal", "--json").stdout)
        assert document[field] is value
        assert getattr(store.intents(spec.name), field) is value
    assert store.state(spec.name) == before


def test_only_an_approval_step_can_be_approved(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.STEPPING, [{"approval": True}, {"weight": 50}])
    assert run("rollout", "approve", "renewal", "--step", "1").exit_code == 2
    assert run("rollout", "approve", "renewal", "--step", "9").exit_code == 2
    assert run("rollout", "approve", "renewal").exit_code == 0
    assert rollouts(open_project(), RENEWAL).intents(spec.name).approved == (0,)


def test_an_ended_rollout_cannot_be_steered_but_tried_again(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.ROLLED_BACK, reason="log_loss is harmed (shadow)")
    assert run("rollout", "abort", "renewal").exit_code == 6
    document = json.loads(run("rollout", "retry", "renewal", "--json").stdout)
    again = f"{spec.candidate.name}-2"
    assert document == {"rollout": again, "retry": 1}
    assert asked(open_project(), RENEWAL).rollout == again
    found = run("rollout", "retry", "renewal")
    assert found.exit_code == 6
    assert "nothing to retry" in found.stderr


def test_get_and_history_show_the_state(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.ROLLED_BACK, reason="log_loss is harmed (shadow)")
    shown = run("rollout", "get", "renewal").output
    assert spec.name in shown
    assert "rolled_back" in shown
    document = json.loads(run("rollout", "get", "renewal", "--json").stdout)
    assert (document["spec"]["name"], document["state"]["phase"]) == (spec.name, "rolled_back")
    told = run("rollout", "history", "renewal").output
    assert "waits for units in this step" in told
    listed = json.loads(run("rollout", "history", "renewal", "--json").stdout)
    assert [one["verdict"] for one in listed["log"]] == ["continue"]
    assert run("rollout", "watch", "renewal", "--json").exit_code == 1


def test_get_shows_the_failed_warnings_of_the_versions_that_meet(rolling: Callable[..., RolloutSpec]) -> None:
    rolling(Phase.ROLLED_BACK)
    assert "failed warnings" not in run("rollout", "get", "renewal").output
    tags = {"serinus.failed_warnings": "calibrated", "serinus.data_warnings": "1"}
    remember(open_project(), ModelVersion("renewal", 2, "run", "file:///b2", datetime(2026, 1, 1, tzinfo=UTC), tags))
    told = "calibrated, 1 of the data contract"
    assert f"version 2 failed warnings: {told}" in run("rollout", "get", "renewal").output
    assert json.loads(run("rollout", "get", "renewal", "--json").stdout)["warnings"] == {"2": told}


def test_a_replay_with_rollouts_cannot_be_taken_up_again(deployed: Path) -> None:
    found = run("replay", "renewal", "--rollouts", "--resume", "x")
    assert found.exit_code == 2
    assert "exclude each other" in found.stderr


def test_a_plan_needs_a_measurement_and_known_kpis(deployed: Path) -> None:
    assert "has not answered anything yet" in run("rollout", "plan", "renewal").stderr
    assert run("rollout", "plan", "renewal", "--effect", "log_loss").exit_code == 2
    assert "no KPI nothing" in run("rollout", "plan", "renewal", "--effect", "nothing=0.1").stderr


def test_intents_say_who_asked_and_why(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.STEPPING, [{"approval": True}, {"weight": 50}])
    told = ("--by", "alice", "--reason", "incident 4711")
    for verb, field in (("pause", "paused"), ("approve", "0"), ("abort", "abort")):
        assert run("rollout", verb, "renewal", *told).exit_code == 0
        assert rollouts(open_project(), RENEWAL).intents(spec.name).said[field] == Said(
            by="alice", reason="incident 4711"
        )
    assert run("rollout", "resume", "renewal").exit_code == 0
    said = rollouts(open_project(), RENEWAL).intents(spec.name).said
    assert said["paused"].reason == ""
    assert said["abort"].by == "alice"


def test_only_in_full_a_rollout_is_promoted_by_hand(rolling: Callable[..., RolloutSpec]) -> None:
    spec = rolling(Phase.STEPPING)
    assert run("rollout", "promote", "renewal").exit_code == 2
    document = json.loads(run("rollout", "promote", "renewal", "--full", "--by", "bob", "--json").stdout)
    assert (document["promote_full"], document["said"]["promote_full"]["by"]) == (True, "bob")
    assert rollouts(open_project(), RENEWAL).intents(spec.name).promote_full


def test_the_last_promotion_can_be_undone_and_nothing_else(rolling: Callable[..., RolloutSpec]) -> None:
    found = run("rollout", "undo", "renewal")
    assert (found.exit_code, "no promotion" in found.stderr) == (6, True)
    spec = rolling(Phase.PROMOTED)
    assert json.loads(run("rollout", "undo", "renewal", "--json").stdout)["undo"] is True
    assert rollouts(open_project(), RENEWAL).intents(spec.name).undo


def test_what_was_refused_cannot_be_undone(rolling: Callable[..., RolloutSpec]) -> None:
    rolling(Phase.ROLLED_BACK)
    assert run("rollout", "undo", "renewal").exit_code == 6
