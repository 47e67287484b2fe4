"""`serinus pipeline run`: what passes by on the screen of each step, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from serinus.cli.app import app
from serinus.cli.pipeline import _fact
from serinus.wiring.project import open_project
from serinus.wiring.shared import turn


def test_the_gates_of_every_candidate_pass_by_with_what_did_not_hold() -> None:
    passed = {"name": "golden_rows", "outcome": "pass", "severity": "critical"}
    failed = {"name": "calibrated", "outcome": "fail", "severity": "warning"}
    told = _fact("gates", {"by_candidate": {"linear": [passed], "gbdt": [passed, failed]}})
    assert told == "linear 1 gates; gbdt 2 gates, not passed: calibrated"


def test_a_second_run_of_a_problem_is_refused_while_the_first_lives(renewal_project: Path) -> None:
    with turn(open_project().home, "renewal", "first"):
        found = CliRunner().invoke(app, ["pipeline", "run", "renewal", "--name", "second"])
    assert found.exit_code == 6
    assert "another run of renewal is under way" in found.stderr
    assert "run first, process" in found.stderr
    assert not (renewal_project / ".serinus/runs/second").exists()


def test_features_are_not_built_under_a_run(renewal_project: Path) -> None:
    with turn(open_project().home, "renewal", "first"):
        assert CliRunner().invoke(app, ["features", "build", "renewal"]).exit_code == 6
