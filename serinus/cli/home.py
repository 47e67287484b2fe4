"""`serinus home convert`."""

from __future__ import annotations

from typing import Annotated

import typer

from serinus.cli.output import command, out, show_json
from serinus.core.names import DEFAULT_NAMESPACE
from serinus.wiring.old_home import convert as converted
from serinus.wiring.old_home import planned
from serinus.wiring.project import open_project

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
    found = planned(home, named, namespace) if dry_run else converted(home, named, namespace)
    if as_json:
        services = [str(one) for one in found.services]
        show_json({"home": str(home), "services": services, "documents": found.documents, "done": not dry_run})
        return
    if not found.services:
        out.print(f"{home} is of this release: nothing to do")
        return
    for one in found.services:
        out.print(f"{one.name} is now service {one}")
    verb = "would be" if dry_run else "were"
    out.print(f"{len(found.documents)} documents {verb} written anew; revisions and rollouts keep their names")
