"""The whole spine on the second problem, of kind scoring, as a user runs it: real processes, from an empty folder.

Nothing in serinus/ knows this problem: its files are those of examples/renewal.
"""

from __future__ import annotations

import json
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp_driver.pod import Backend
from renewal_copy import Project, new_project

from pipelines.compile import compile_training
from serinus.core.card import Problem

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project(tmp_path_factory.mktemp("renewal"))


@pytest.fixture(scope="module")
def first(project: Project) -> Any:
    """The first run, registering two candidates."""
    return project.json("pipeline", "run", "renewal", "--register", "gbdt,chosen", "--name", "first")


def test_one_run_registers_both(project: Project, first: Any) -> None:
    assert first["succeeded"] is True
    assert list(project.temporary.iterdir()) == [], "a run leaves no temporary files"
    assert [(one["candidate"], one["version"]) for one in first["versions"]] == [("gbdt", 1), ("linear", 2)]
    assert first["versions"][1]["aliases"] == ["challenger"]
    listed = project.json("model", "list", "renewal")
    assert listed["wanted_version"] == 2
    assert {one["version"]: one["aliases"] for one in listed["versions"]} == {1: [], 2: ["challenger"]}


def test_the_version_carries_gates_and_the_id_chain(project: Project, first: Any) -> None:
    tags = project.json("model", "show", "renewal", "challenger")["tags"]
    assert tags["serinus.gate.beats_baselines.random"] == "pass"
    assert tags["serinus.gate.not_worse_than_champion"] == "not_applicable"
    assert tags["serinus.pipeline_run"] == "first"
    assert tags["serinus.data_warnings"] == "0"
    for name in ("bundle_hash", "snapshot_hash", "training_set_hash", "service_hash"):
        assert tags[f"serinus.{name}"] == first["ids"].get(name, tags[f"serinus.{name}"])
        assert len(tags[f"serinus.{name}"]) == 64


def test_report_and_summary_hold_what_was_measured(project: Project, first: Any) -> None:
    html = Path(first["files"]["report"]).read_text()
    assert "most_tickets" in html
    assert "hits@10" not in html
    summary = json.loads(Path(first["files"]["summary"]).read_text())
    assert summary["chosen"] == "linear"
    assert summary["model"] == {
        "name": "renewal", "version": 2, "bundle_hash": first["versions"][1]["bundle_hash"],
    }  # fmt: skip
    assert {one["kind"] for one in summary["candidates"]} == {"linear", "gbdt"}
    assert {one["verdict"] for one in summary["gates"]} <= {"pass", "not_applicable", "fail"}
    gates = {(one["candidate"], one["name"]) for one in summary["gates"]}
    assert gates >= {("gbdt", "golden_rows"), ("linear", "golden_rows")}, "each that is registered shows its own"
    names = [stage["name"] for stage in summary["stages"]]
    assert names[:3] == ["prepare", "contract_raw", "features"]


def test_a_lookup_shows_values_with_their_times_and_unknown_entities_as_such(project: Project, first: Any) -> None:
    account = "A000"
    (found,) = project.json("features", "lookup", "renewal", "--account", account)
    assert found["kind"] == "account"
    assert {value["feature"] for value in found["values"]} >= {"plan", "sessions", "first_month"}
    (unknown,) = project.json("features", "lookup", "renewal", "--account", "nobody")
    assert unknown["known"] is False
    shown = project.run("features", "lookup", "renewal", "--account", "nobody").stdout
    assert "unknown: cold-start defaults apply" in shown
    past = project.json("features", "lookup", "renewal", "--account", account, "--as-of", "2024-06-15")
    assert past[0]["kind"] == "account"


def test_nothing_that_was_written_is_a_pickle(project: Project, first: Any) -> None:
    suspects = [
        path for path in project.home.rglob("*") if path.is_file() and path.suffix in (".pkl", ".pickle", ".joblib")
    ]
    for path in project.home.rglob("*"):
        if path.is_file() and path.stat().st_size and _is_pickle(path):
            suspects.append(path)
    assert suspects == []


def _is_pickle(path: Path) -> bool:
    data = path.read_bytes()
    if not data.startswith(b"\x80"):  # every protocol since 2 begins so
        return False
    try:
        list(pickletools.genops(data))
    except Exception:  # noqa: BLE001 - any fault means that it is none
        return False
    return True


def test_the_same_inputs_give_the_same_bundle_and_the_champion_is_judged(project: Project, first: Any) -> None:
    project.run("model", "promote", "renewal", "2")
    again = project.json("pipeline", "run", "renewal", "--name", "second")
    assert again["versions"][0]["bundle_hash"] == first["versions"][1]["bundle_hash"]
    assert again["versions"][0]["version"] == 3
    tags = project.json("model", "show", "renewal", "3")["tags"]
    assert tags["serinus.gate.not_worse_than_champion"] == "pass"
    aliases = {one["version"]: one["aliases"] for one in project.json("model", "list", "renewal")["versions"]}
    assert aliases == {1: [], 2: ["champion"], 3: ["challenger"]}


def test_a_failing_gate_ends_red_with_the_reason_in_the_first_line(project: Project, first: Any) -> None:
    project.edit("problems/renewal/problem.yaml", "severity: warning, low: 0.6, high: 1.6", "low: 0.01, high: 0.02")
    try:
        before = project.json("model", "list", "renewal")
        done = project.run("pipeline", "run", "renewal", "--name", "refused", code=3)
        error = next(line for line in done.stderr.splitlines() if line.startswith("error:"))
        assert error.startswith("error: candidate linear was refused by gate calibrated fail: predicted/observed ")
        assert "(allowed 0.01 to 0.02)" in error
        assert "refused by gate calibrated" in (project.home / "runs/refused/report.html").read_text()
        assert project.json("model", "list", "renewal") == before
    finally:
        project.edit("problems/renewal/problem.yaml", "low: 0.01, high: 0.02", "severity: warning, low: 0.6, high: 1.6")


def test_a_model_step_needs_its_declared_inputs_and_nothing_else(project: Project, first: Any, tmp_path: Path) -> None:
    """With another home, no journal and an empty folder: what the artifacts carry must do."""
    (made,) = (project.home / "runs/first/artifacts").iterdir()
    code = f"""
from pathlib import Path
from serinus.wiring.steps import models, release
made, new = Path({str(made)!r}), Path("new")
data, verdict = made / "build-training-set/training_set", made / "check-training-set/verdict"
models.train_candidate("renewal", "job", "gbdt", data, verdict, new / "gbdt")
folders = {{"gbdt": new / "gbdt"}}
models.evaluate_candidates("renewal", "job", data, folders, new / "evaluation")
models.judge_candidates("renewal", "job", "chosen", folders, new / "evaluation", new / "gates")
print(release.register("renewal", "job", "chosen", folders, new / "evaluation", new / "gates"))
"""
    environment = project.environment | {"SERINUS_HOME": str(tmp_path / "home")}
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path / "empty",
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_each_component_runs_with_what_a_real_backend_hands_it_and_finds_the_same(
    project: Project, first: Any, renewal_card: Problem, tmp_path: Path
) -> None:
    """Each task in a pod of its own, in the order of the pipeline; the shared volume is a home of its own, too."""
    home = tmp_path / "home"
    package = compile_training(renewal_card, tmp_path / "renewal.yaml")
    backend = Backend(package, tmp_path, project.environment | {"SERINUS_HOME": str(home)})
    for task in backend.order():
        done = backend.run(task)
        assert done.returncode == 0, f"{task}: {done.stdout}{done.stderr}"
        assert list((tmp_path / "pods" / task / "empty").iterdir()) == [], "a task writes to its outputs and its home"
    assert backend.result("register")["parameterValues"] == {"Output": 1}
    (run,) = (home / "runs").iterdir()
    there, here = (json.loads((folder / "summary.json").read_text()) for folder in (run, project.home / "runs/first"))
    assert there["failure"] is None
    for fact in ("candidates", "baselines", "chosen"):
        assert there[fact] == here[fact], fact
    assert there["gates"] == [one for one in here["gates"] if one["candidate"] == here["chosen"]]
    hashes = ("snapshot_hash", "service_hash", "training_set_hash", "bundle_hash")
    assert [there["ids"][name] for name in hashes] == [here["ids"][name] for name in hashes]


def test_the_name_of_a_run_is_its_own(project: Project, first: Any) -> None:
    assert "there is a run first already" in project.run("pipeline", "run", "renewal", "--name", "first", code=6).stderr
