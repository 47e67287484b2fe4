"""`serinus model list|show|promote`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from serinus.cli.output import command, out, show_json, show_table
from serinus.core.ports import ModelVersion
from serinus.wiring.adapters import deployer, registry
from serinus.wiring.project import open_project

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@app.command(name="list")
@command
def list_versions(problem: str, as_json: Json = False) -> None:
    """Registered versions of a problem's model, newest first."""
    project = open_project()
    project.problem(problem)
    versions = registry(project).versions(problem)
    service = deployer(project).service(problem)
    wanted = service.version if service else None
    if as_json:
        show_json({"model": problem, "wanted_version": wanted, "versions": [_plain(one) for one in versions]})
        return
    if not versions:
        out.print(f"no version of {problem} yet; `serinus pipeline run {problem}` registers one")
        return
    rows = [
        (
            one.version,
            one.tags.get("serinus.candidate", ""),
            ", ".join(one.aliases),
            _short(one),
            "wanted" if one.version == wanted else "",
            one.warnings,
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
        for one in versions
    ]
    show_table(
        f"versions of {problem}",
        ("version", "candidate", "aliases", "bundle", "service", "failed warnings", "created"),
        rows,
        right=("version",),
    )


@app.command()
@command
def show(
    problem: str, version: Annotated[str, typer.Argument(help="Number or alias.")] = "challenger", as_json: Json = False
) -> None:
    """One version with its tags: gates, id chain, storage."""
    project = open_project()
    project.problem(problem)
    found = registry(project).version(problem, version)
    if as_json:
        show_json(_plain(found))
        return
    rows = [
        ("failed warnings", found.warnings or "none"),
        ("storage_uri", found.storage_uri),
        ("run", found.run_id),
        ("aliases", ", ".join(found.aliases)),
    ]
    show_table(f"{problem} version {found.version}", ("field", "value"), rows + sorted(found.tags.items()))


@app.command()
@command
def promote(
    problem: str, version: Annotated[str, typer.Argument(help="Number or alias.")], as_json: Json = False
) -> None:
    """Makes a version champion by hand; refused while a service manages the model."""
    project = open_project()
    project.problem(problem)
    models = registry(project)
    number = models.version(problem, version).version
    models.promote(problem, number, reason="by hand", by_hand=True)
    found = models.version(problem, str(number))
    if as_json:
        show_json(_plain(found))
        return
    out.print(f"[green]{problem} version {number} is champion[/]")


def _plain(version: ModelVersion) -> dict[str, Any]:
    told = {"tags": dict(version.tags), "aliases": list(version.aliases), "warnings": version.warnings}
    return asdict(version) | told


def _short(version: ModelVersion) -> str:
    return version.tags.get("serinus.bundle_hash", "")[:12]
