"""Commands: what they print, what they print with --json, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.wiring.project import open_project


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_valid_card_is_shown(renewal_project: Path) -> None:
    found = run("problem", "check", "renewal")
    assert found.exit_code == 0
    assert "card and contract are valid" in found.output
    document = json.loads(run("problem", "check", "renewal", "--json").stdout)
    assert document["candidates"] == ["linear", "gbdt"]
    assert document["contract_suites"] == ["raw", "training"]


def test_a_faulty_card_ends_with_2_and_names_the_field(renewal_project: Path) -> None:
    card = renewal_project / "problems/renewal/problem.yaml"
    card.write_text(card.read_text().replace("kind: scoring", "kind: scroing"))
    found = run("problem", "check", "renewal", "--json")
    assert found.exit_code == 2
    document = json.loads(found.stdout)
    assert document["headline"] == "problems/renewal/problem.yaml has 1 fault"
    assert document["cause"].startswith("framing.kind: ")
    assert "framing.kind" in found.stderr


@pytest.mark.parametrize("kind", ["scoring", "ranking"])
def test_a_new_problem_passes_the_check(renewal_project: Path, kind: str) -> None:
    made = run("problem", "new", "churn-2", "--kind", kind, "--json")
    assert made.exit_code == 0, made.output
    files = json.loads(made.stdout)["files"]
    assert "problems/churn-2/problem.yaml" in files
    assert "feature_repo/churn_2.py" in files
    assert "#" in (renewal_project / "problems/churn-2/problem.yaml").read_text()
    assert run("problem", "check", "churn-2").exit_code == 0
    loaded = open_project().problem("churn-2")
    assert len(loaded.code.inputs) == 6
    assert loaded.card.framing.kind == kind


def test_a_new_problem_is_one_of_scoring_when_nothing_is_said(renewal_project: Path) -> None:
    assert run("problem", "new", "churn-2").exit_code == 0
    assert open_project().problem("churn-2").card.framing.kind == "scoring"


def test_an_unknown_kind_ends_with_2_and_names_those_that_there_are(renewal_project: Path) -> None:
    found = run("problem", "new", "churn-2", "--kind", "sorting")
    assert found.exit_code == 2
    assert "scoring" in found.stderr
    assert not (renewal_project / "problems/churn-2").exists()


def test_a_new_problem_overwrites_nothing(renewal_project: Path) -> None:
    found = run("problem", "new", "renewal")
    assert found.exit_code == 6
    assert "exists already" in found.stderr


@pytest.mark.parametrize("name", ["Upper", "with_underscore", "1st", "a b", "../up", "a-", "a" * 33])
def test_a_name_that_cannot_be_one_is_refused(renewal_project: Path, name: str) -> None:
    found = run("problem", "new", name)
    assert found.exit_code == 2
    assert [path.name for path in renewal_project.glob("problems/*")] == ["renewal"]
    assert [path.name for path in renewal_project.glob("feature_repo/*.py")] == ["renewal.py"]


def test_a_name_that_would_do_is_told(renewal_project: Path) -> None:
    assert "card-fraud would do" in run("problem", "new", "card_fraud").stderr


def test_a_card_whose_name_no_object_could_have_is_told_by_its_field(renewal_project: Path) -> None:
    """Kubernetes' rules bind from the card on: what cannot be deployed there is not trained either."""
    (renewal_project / "problems/renewal").rename(renewal_project / "problems/card_fraud")
    card = renewal_project / "problems/card_fraud/problem.yaml"
    card.write_text(card.read_text().replace("name: renewal", "name: card_fraud", 1))
    found = run("problem", "check", "card_fraud")
    assert found.exit_code == 2
    assert "name: a name is lower-case letters, digits and hyphens" in found.stderr
    assert "card-fraud would do" in found.stderr.replace("\n", " ")


def test_an_unknown_problem_ends_with_4(renewal_project: Path) -> None:
    found = run("problem", "check", "nothing")
    assert found.exit_code == 4
    assert "no problem nothing" in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--item", "1"), "lookup of renewal takes --account"),
        (("--account", "A001", "--colour", "red"), "not understood: colour"),
        (("A001",), "is not an option"),
        (("--account",), "--account needs a value"),
        (("--account", "A001", "--as-of", "yesterday"), "is not a day or time"),
        (("--account", "A001", "--as-of", "1815-06-18"), "must lie between 1970 and 2199"),
    ],
)
def test_lookup_explains_its_options(renewal_project: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run("features", "lookup", "renewal", *arguments)
    assert found.exit_code == 2
    assert message in found.stderr.replace("\n", " ")


def test_resuming_an_unknown_run_ends_with_4(renewal_project: Path) -> None:
    assert run("pipeline", "run", "renewal", "--resume", "gone").exit_code == 4


@pytest.mark.parametrize("wanted", ["best", "linear,best", ","])
@pytest.mark.parametrize("verb", ["run", "submit"])
def test_candidates_that_the_card_does_not_have_are_refused_at_once(
    renewal_project: Path, verb: str, wanted: str
) -> None:
    found = run("pipeline", verb, "renewal", "--register", wanted)
    assert found.exit_code == 2
    assert "cannot register" in found.stderr
    assert not (renewal_project / ".serinus").exists()


# They run until they are stopped; what they say is a log.
SERVERS = {"serve", "collect", "rollout run"}


def test_every_command_has_json() -> None:
    import typer.main

    group = typer.main.get_command(app)
    for name, found in group.commands.items():  # type: ignore[attr-defined]
        for command in getattr(found, "commands", {name: found}).values():
            has_json = any("--json" in option.opts for option in command.params)
            called = name if command is found else f"{name} {command.name}"
            assert has_json != (called in SERVERS), called


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", ".hidden", "x" * 300, "ü"])
def test_a_run_whose_name_no_folder_should_have_is_refused_before_it_begins(renewal_project: Path, name: str) -> None:
    for option in ("--name", "--resume"):
        found = run("pipeline", "run", "renewal", option, name)
        assert (found.exit_code, "cannot name a run" in found.stderr) == (2, True)
    assert not (renewal_project / ".serinus/runs").exists()
