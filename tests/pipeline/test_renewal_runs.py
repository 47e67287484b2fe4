"""Runs of one problem that meet: interleaved as tasks of two runs on one volume are, and taken up after a change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from renewal_copy import Project, new_project

pytestmark = pytest.mark.slow
SLOW_SECONDS = 900

STEPS = """
import json, sys
from pathlib import Path
from serinus.core.errors import SerinusError
from serinus.wiring.steps import data

def features(run, work):
    data.read_raw("renewal", run, work / "raw")
    data.check_raw("renewal", run, work / "raw", work / "accepted", work / "verdict")
    data.build_features("renewal", run, work / "accepted", work / "tables")

def training_set(run, work):
    data.build_training_set("renewal", run, work / "tables", work / "set")

told, log = [], Path(sys.argv[1])
whole = log.read_text()
for name, run in json.loads(sys.argv[2]):
    lines = whole.splitlines(keepends=True)
    log.write_text("".join(lines if run == "a" else lines[:-40]))
    work = Path(run)
    work.mkdir(exist_ok=True)
    try:
        {"features": features, "training_set": training_set}[name](run, work)
        told.append(data.read_json(work / "set" / "lineage.json") if name == "training_set" else "")
    except SerinusError as fault:
        told.append([fault.exit_code, fault.headline])
print(json.dumps(told))
"""


def _played(project: Project, *steps: tuple[str, str]) -> list[Any]:
    """What each step ended with, run by run; run b reads a log that is forty rows shorter."""
    log = project.folder / "problems/renewal/data/accounts.csv"
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(log), json.dumps(steps)],
        capture_output=True, text=True, cwd=project.empty, env=project.environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout)
    return told


def test_of_two_interleaved_runs_none_joins_features_of_the_others_data(tmp_path: Path) -> None:
    a, b, made = ("features", "a"), ("features", "b"), "training_set"
    alone = _played(new_project(tmp_path), a, (made, "a"), b, (made, "b"))
    assert alone[1]["training_set_hash"] != alone[3]["training_set_hash"]
    (tmp_path / "second").mkdir()
    met = _played(new_project(tmp_path / "second"), a, b, (made, "a"), (made, "b"), (made, "a"))
    refused = [6, "the feature sources of renewal are not those of run a"]
    assert met[2] == met[4] == refused
    assert met[3]["training_set_hash"] == alone[3]["training_set_hash"]
    assert met[3]["snapshot_hash"] == alone[3]["snapshot_hash"]


@pytest.mark.timeout(2 * SLOW_SECONDS)  # two whole runs
def test_a_run_taken_up_makes_anew_what_changed_and_says_why(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    first = project.json("pipeline", "run", "renewal", "--name", "mine", "--register", "gbdt,chosen")
    steps = project.home / "runs/mine/steps"
    before = {path.name: path.stat().st_mtime_ns for path in steps.iterdir()}
    project.edit("problems/renewal/problem.yaml", "min_data_in_leaf: 15", "min_data_in_leaf: 20")
    done = project.run("pipeline", "run", "renewal", "--resume", "mine", "--json")
    again = json.loads(done.stdout)
    assert "made anew: train_gbdt (card data.candidates[1].params.min_data_in_leaf: 15, now 20)" in done.stderr
    assert "made anew: evaluate (it reads train_" in done.stderr
    assert again["made_anew"]["deploy"]
    kept = {path.name for path in steps.iterdir() if path.stat().st_mtime_ns == before.get(path.name)}
    assert kept == {
        f"{one}.json" for one in ("prepare", "contract_raw", "features", "training_set", "contract_training")
    }
    assert [one["candidate"] for one in again["versions"]] == ["gbdt", "linear"], "what was asked is asked again"
    hashes = [{one["candidate"]: one["bundle_hash"] for one in run["versions"]} for run in (first, again)]
    assert hashes[0]["gbdt"] != hashes[1]["gbdt"]
    assert hashes[0]["linear"] == hashes[1]["linear"]


def test_a_fault_of_the_problems_own_code_is_three_lines_and_not_a_log(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    project.edit("problems/renewal/dataset.py", 'kept["fee"]', 'kept["fees"]')
    done = project.run("pipeline", "run", "renewal", "--name", "mine", code=7)
    error = done.stderr[done.stderr.index("error:") :]
    assert error.startswith("error: problems/renewal/dataset.py:26: KeyError: 'fees'\n")
    assert "Traceback" not in done.stdout + done.stderr
    assert len(error.splitlines()) == 3
    assert "dataset.py:26" in (project.home / "runs/mine/report.html").read_text()
