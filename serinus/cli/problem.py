"""`serinus problem check|new`."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any

import typer
from rich.markup import escape

from serinus.cli.output import command, out, show_json
from serinus.core.card import Kind
from serinus.core.card.steps import four_steps, not_used_yet
from serinus.core.errors import Conflict, UsageError
from serinus.core.names import feast_project, problem_faults
from serinus.wiring.project import open_project

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
_FILES = ("problem.yaml", "contract.yaml", "dataset.py", "features.py")


@app.command()
@command
def check(name: str, as_json: Json = False) -> None:
    """Finds what would break a run later, each by its field or line; exit code 2 when there is a fault."""
    project = open_project()
    from serinus.wiring.problem_check import check_problem

    found = check_problem(project, name)
    found.require()
    card, contract = found.card, found.contract
    if card is None or contract is None:  # without either there is a fault
        raise AssertionError(name)
    facts: dict[str, Any] = {
        "problem": name,
        "valid": True,
        "kind": card.framing.kind.value,
        "steps": four_steps(card),
        "kpis": [kpi.name for kpi in card.requirements.kpis],
        "candidates": [one.name for one in card.data.candidates],
        "gates": [one.name for one in card.operation.gates],
        "contract_suites": sorted(contract.suites),
        "not_used_yet": not_used_yet(card),
        "notes": found.notes,
    }
    if as_json:
        show_json(facts)
        return
    out.print(f"[green]{name}: card and contract are valid[/] ({card.framing.kind.value}: {escape(card.title)})")
    for step in facts["steps"]:
        out.print(f"[bold]{step['title']}[/]")
        for key, value in step["says"].items():
            out.print(f"  {key}: {escape(value)}", soft_wrap=True)
    if facts["not_used_yet"]:
        out.print(f"[yellow]not used yet[/]: {', '.join(facts['not_used_yet'])}", soft_wrap=True)
    for note in found.notes:
        out.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)


@app.command()
@command
def new(
    name: str,
    kind: Annotated[
        Kind, typer.Option(help="`ranking` orders many items for one entity; `scoring` gives one entity a probability.")
    ] = Kind.SCORING,
    as_json: Json = False,
) -> None:
    """Writes a commented skeleton of a problem that passes the check."""
    faults = "; ".join(problem_faults(name))
    if faults:
        raise UsageError(f"{name} cannot name a problem", cause=faults, hint="its usual service has the same name")
    project = open_project()
    folder = project.problem_folder(name)
    if folder.exists():
        raise Conflict(f"{folder} exists already", hint="choose another name, or edit what is there")
    places = {file: folder / file for file in _FILES}
    repo = project.declarations(name)
    places |= {} if repo.exists() else {"feature_repo.py": repo}
    for file, place in places.items():
        text = resources.files("serinus.cli").joinpath("skeleton", kind, f"{file}.txt").read_text(encoding="utf-8")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text.replace("__NAME__", name).replace("__WORD__", feast_project(name)), encoding="utf-8")
    written = [str(place.relative_to(project.root)) for place in places.values()]
    if as_json:
        show_json({"problem": name, "files": written})
        return
    for path in written:
        out.print(f"wrote {path}")
    out.print(f"next: fill in the comments, then `serinus problem check {name}` and `serinus pipeline run {name}`")
