"""`serinus model list|show|promote|restore`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from serinus.cli.output import command, out, show_json, show_table
from serinus.core.ports import ModelVersion
from serinus.core.rollout.spec import Revision
from serinus.rollout.registry_sync import version_of
from serinus.wiring.abandoned import close_cut_off
from serinus.wiring.adapters import deployer, registry
from serinus.wiring.project import Project, open_project
from serinus.wiring.services import in_service, synced, wanted

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@app.command(name="list")
@command
def list_versions(problem: str, as_json: Json = False) -> None:
    """Registered versions of a problem's model, newest first, and what its service wants and serves."""
    project = _opened(problem)
    versions = registry(project).versions(problem)
    roles, told = _roles(project, problem), synced(project, problem)
    gone = [one for one in roles if version_of(versions, one) is None]
    if as_json:
        show_json(
            {
                "model": problem,
                "wanted_version": next((one.model.version for one, role in roles.items() if "wanted" in role), None),
                "versions": [_plain(one) for one in versions],
                "gone": [one.model.version for one in gone],
                "registry": told.model_dump(mode="json") if told else None,
            }
        )
        return
    if not versions and not gone:
        out.print(f"no version of {problem} yet; `serinus pipeline run {problem}` registers one")
        return
    _table(problem, versions, roles)
    for one in gone:
        hint = f"`serinus model restore {problem} {one.model.version}` registers its bundle again"
        out.print(f"version {one.model.version} was deleted in the registry; {hint}", soft_wrap=True)
    if told is not None and not told.holds:
        out.print(f"champion is not what serves, {told.revision}: {told.reason}", style="yellow", soft_wrap=True)


def _opened(problem: str) -> Project:
    """The project; a run of the problem that was cut off is closed first, for the registry is asked anyway."""
    project = open_project()
    project.problem(problem)
    close_cut_off(project, problem)
    return project


def _table(problem: str, versions: list[ModelVersion], roles: dict[Revision, str]) -> None:
    found = {revision: version_of(versions, revision) for revision in roles}
    role_of = {one.version: roles[revision] for revision, one in found.items() if one is not None}
    rows = [
        (
            one.version,
            one.tags.get("serinus.candidate", ""),
            ", ".join(one.aliases),
            _short(one),
            role_of.get(one.version, ""),
            one.warnings,
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
        for one in versions
    ]
    gone = [one for one, known in found.items() if known is None]
    rows += [(one.model.version, "", "deleted", "", roles[one], "", "") for one in gone]
    columns = ("version", "candidate", "aliases", "bundle", "service", "failed warnings", "created")
    show_table(f"versions of {problem}", columns, rows, right=("version",))


def _roles(project: Project, problem: str) -> dict[Revision, str]:
    """What the service wants and what it serves; nothing before the first deployment."""
    if deployer(project).service(problem) is None:
        return {}
    asked, serves = wanted(project, problem).revision, in_service(project, problem)
    if serves is None:
        return {asked: "wanted"}
    return {asked: "wanted, serves"} if serves == asked else {asked: "wanted", serves: "serves"}


@app.command()
@command
def show(
    problem: str, version: Annotated[str, typer.Argument(help="Number or alias.")] = "challenger", as_json: Json = False
) -> None:
    """One version with its tags: gates, id chain, storage."""
    project = _opened(problem)
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
    project = _opened(problem)
    models = registry(project)
    number = models.version(problem, version).version
    models.promote(problem, number, reason="by hand", by_hand=True)
    found = models.version(problem, str(number))
    if as_json:
        show_json(_plain(found))
        return
    out.print(f"[green]{problem} version {number} is champion[/]")


@app.command()
@command
def restore(
    problem: str,
    version: Annotated[str, typer.Argument(help="A number that the service knows.")],
    as_json: Json = False,
) -> None:
    """Registers a version's bundle again that was deleted in MLflow; the service then points champion at it."""
    from serinus.wiring.restore import restore as register_again

    project = _opened(problem)
    found = register_again(project, problem, version)
    if as_json:
        show_json(_plain(found))
        return
    out.print(f"[green]the bundle of version {version} is {problem} version {found.version}[/]")


def _plain(version: ModelVersion) -> dict[str, Any]:
    told = {"tags": dict(version.tags), "aliases": list(version.aliases), "warnings": version.warnings}
    return asdict(version) | told


def _short(version: ModelVersion) -> str:
    return version.tags.get("serinus.bundle_hash", "")[:12]
