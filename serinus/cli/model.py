"""`serinus model list|show|promote|restore`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Annotated, Any

import typer

from serinus.cli.output import command, out, show_json, show_table
from serinus.core.names import ServiceRef
from serinus.core.ports import ModelVersion, Service
from serinus.core.rollout.spec import Revision
from serinus.rollout.registry_sync import Synced, version_of
from serinus.wiring.abandoned import close_cut_off
from serinus.wiring.adapters import registry
from serinus.wiring.project import Project, open_project
from serinus.wiring.services import in_service, services_of, synced, wanted

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@app.command(name="list")
@command
def list_versions(problem: str, as_json: Json = False) -> None:
    """Registered versions of a problem's model, newest first, and what its services want and serve."""
    project = _opened(problem)
    versions = registry(project).versions(problem)
    services = services_of(project, problem)
    roles = {revision: role for one in services for revision, role in _roles(project, one).items()}
    told = {one.ref: synced(project, one.ref) for one in services}
    gone = [one for one in roles if version_of(versions, one) is None]
    if as_json:
        usual = ServiceRef.parse(problem)
        show_json(
            {
                "model": problem,
                "wanted_version": next((one.version for one in services if one.ref == usual), None),
                "versions": [_plain(one) for one in versions],
                "gone": [one.model.version for one in gone],
                "registry": _json(told.get(usual)),
                "services": {
                    str(one.ref): {"wanted_version": one.version, "registry": _json(told[one.ref])} for one in services
                },
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
    for found in told.values():
        if found is not None and not found.holds:
            out.print(f"champion is not what serves, {found.revision}: {found.reason}", style="yellow", soft_wrap=True)


def _json(found: Synced | None) -> dict[str, Any] | None:
    return found.model_dump(mode="json") if found else None


def _opened(problem: str) -> Project:
    """The project; a run of the problem that was cut off is closed first, for the registry is asked anyway."""
    project = open_project()
    project.problem(problem)
    close_cut_off(project, problem)
    return project


def _table(problem: str, versions: list[ModelVersion], roles: dict[Revision, str]) -> None:
    found = {revision: version_of(versions, revision) for revision in roles}
    role_of: dict[int, list[str]] = defaultdict(list)
    for revision, known in found.items():
        if known is not None:
            role_of[known.version].append(roles[revision])
    rows = [
        (
            one.version,
            one.tags.get("serinus.candidate", ""),
            ", ".join(one.aliases),
            _short(one),
            "; ".join(role_of[one.version]),
            one.warnings,
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
        for one in versions
    ]
    gone = [one for one, known in found.items() if known is None]
    rows += [(one.model.version, "", "deleted", "", roles[one], "", "") for one in gone]
    columns = ("version", "candidate", "aliases", "bundle", "service", "failed warnings", "created")
    show_table(f"versions of {problem}", columns, rows, right=("version",))


def _roles(project: Project, service: Service) -> dict[Revision, str]:
    """What a service wants and what it serves, with its name where it is not the problem's usual one."""
    whose = "" if service.ref == ServiceRef.parse(service.problem) else f"{service.ref.shown}: "
    asked, serves = wanted(project, service.ref).revision, in_service(project, service.ref)
    if serves is None or serves == asked:
        return {asked: f"{whose}wanted" + (", serves" if serves else "")}
    return {asked: f"{whose}wanted", serves: f"{whose}serves"}


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
    version: Annotated[str, typer.Argument(help="A number that a service knows.")],
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
