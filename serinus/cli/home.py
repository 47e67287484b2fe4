"""`serinus home convert`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from serinus.cli.output import command, out, show_json
from serinus.core.names import DEFAULT_NAMESPACE, ServiceRef
from serinus.rollout.registry_sync import owner_of
from serinus.wiring.adapters import registry
from serinus.wiring.old_home import convert as converted
from serinus.wiring.old_home import planned
from serinus.wiring.project import Project, open_project

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@app.command()
@command
def convert(
    namespace: Annotated[str, typer.Option(help="The namespace that its services get.")] = DEFAULT_NAMESPACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Brings the home of an earlier release here: its services and their logs. Doing it again changes nothing."""
    project = open_project()
    home, named = project.profile.home, project.profile.stores().named
    if dry_run:
        found = planned(home, named, namespace)
    else:
        found = converted(home, named, namespace, rename=partial(_rename, project))
    if as_json:
        services = [str(one) for one in found.services]
        show_json({"home": str(home), "services": services, "documents": found.documents, "done": not dry_run})
        return
    if not found.services:
        out.print(f"{home} is of this release: nothing to do")
        return
    becomes, are = ("would be", "would be") if dry_run else ("is now", "were")
    for one in found.services:
        out.print(f"{one.name} {becomes} service {one}")
    out.print(f"documents that {are} written anew: {len(found.documents)}; revisions and rollouts keep their names")


def _rename(project: Project, service: ServiceRef) -> None:
    """Its model's aliases stay its own: release 0.1 claimed them under a name without a namespace."""
    before = ServiceRef(DEFAULT_NAMESPACE, service.name)
    if service != before:
        registry(project).hand_over(service.name, owner_of(before), owner_of(service))
