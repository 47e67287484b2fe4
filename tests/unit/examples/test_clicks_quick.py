"""`make quick`: every start is a new one, there is one at a time, and truth stands beside verdict."""

from __future__ import annotations

import fcntl
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from quick_summary import FIELDS, conditions

from examples.clicks import quick
from examples.clicks.__main__ import main
from examples.clicks.traffic import Counted
from examples.clicks.truth import Effect
from serinus.core.words import Phase
from serinus.wiring.project import open_project


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `make quick` sets for the processes that it starts is undone."""
    monkeypatch.setenv("SERINUS_HOME", str(tmp_path))
    monkeypatch.setenv("SERINUS_PROJECT", "")


def test_a_second_one_at_a_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quick").mkdir()
    with (tmp_path / "quick/.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert quick.run(quick.VERSIONS, 0.0) == 6
    assert "another `make quick` runs" in capsys.readouterr().err


def test_a_start_removes_what_an_earlier_one_left(tmp_path: Path) -> None:
    for name in ("home/runs/quick/steps/prepare.json", "summary.json", ".lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    project = quick.fresh(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert project.home == tmp_path / "home"
    assert project.problem_names() == ["clicks"]


def test_the_command_that_a_hint_gives_finds_the_shop_from_where_make_was_called(tmp_path: Path) -> None:
    project = quick.fresh(tmp_path)
    *where, program, group, action, problem = quick.history().split()
    assert (program, group, action) == ("serinus", "rollout", "history")
    found = open_project(dict(one.split("=", 1) for one in where), start=tmp_path)
    assert (found.root, found.home, found.problem_names()) == (project.root, project.home, [problem])


@pytest.mark.parametrize("command", [["truth"], ["simulate", "--seeds", "1"]])
def test_what_needs_trained_versions_says_what_trains_them(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 4
    assert "`make quick`" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["--seeds", "-3"], ["--seeds", "two"], ["bananas"]])
def test_a_simulation_of_nothing_is_wrong_input(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["simulate", *wrong])
    assert raised.value.code == 2
    assert wrong[-1] in capsys.readouterr().err


def test_the_summary_has_truth_and_verdict_of_each_version(tmp_path: Path) -> None:
    made = quick.Quick(tmp_path, quick.fresh(tmp_path), 0.0)
    made.truths = {"better": Effect(0.0821, 0.002), "worse": Effect(-0.1466, 0.003)}
    made.counted = {"better": Counted(played=900), "worse": Counted(played=800)}
    promoted, kept = (_record(Phase.PROMOTED), _record(Phase.PROMOTED))
    rows = [quick.version_row(made, name, one, "ctr") for name, one in (("better", promoted), ("worse", kept))]
    assert all(set(row) >= FIELDS for row in rows)
    assert [row["agrees"] for row in rows] == [True, False]
    summary = json.loads(json.dumps({"elapsed_s": 1.0, "versions": rows}))
    assert [name for name, holds, _ in conditions(summary) if not holds] == ["the worse one is rolled back"]


def _record(outcome: Phase) -> Any:
    goal = SimpleNamespace(name="ctr", estimate=0.1, low=-0.01, high=0.2)
    return SimpleNamespace(kpis=(goal,), outcome=outcome, decided_by="ctr", used_units=400)
