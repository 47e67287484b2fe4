"""`serinus features build|materialize|lookup`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serinus.cli.output import command, moment_of, out, show_json, show_table
from serinus.core.errors import UsageError
from serinus.wiring.lookup import Asked, Found, look_up
from serinus.wiring.project import open_project

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Online = Annotated[
    str, typer.Option(help="Online store, a path or redis://…; that of the profile or of Feast's configuration.")
]
_ANY_OPTION = {"ignore_unknown_options": True, "allow_extra_args": True}
_SHOWN_ELEMENTS = 3


@app.command()
@command
def build(problem: str, as_json: Json = False) -> None:
    """Raw log → contract → feature sources → Feast, without training."""
    from serinus.wiring.build import build_features_only

    facts = build_features_only(open_project(), problem)
    if as_json:
        show_json(facts)
        return
    show_table(
        f"feature sources of {problem}",
        ("view", "entity", "rows", "columns"),
        [(v["name"], v["entity"], f"{v['rows']:,}", v["columns"]) for v in facts["views"]],
        right=("rows", "columns"),
    )


@app.command()
@command
def materialize(
    problem: str,
    as_of: Annotated[str, typer.Option(help="Day or time (UTC); the snapshot's own time when not given.")] = "",
    online: Online = "",
    as_json: Json = False,
) -> None:
    """Loads the online store with the latest row of every view as of a time."""
    from serinus.wiring.steps.release import features_as_of

    facts = features_as_of(problem, moment_of(as_of).replace(tzinfo=None) if as_of else None, online)
    if as_json:
        show_json(facts)
        return
    show_table(
        f"online store of {problem} as of {facts['as_of']}",
        ("view", "rows"),
        [(v["name"], f"{v['rows']:,}") for v in facts["views"]],
        right=("rows",),
    )


@app.command(context_settings=_ANY_OPTION)
@command
def lookup(
    context: typer.Context,
    problem: str,
    as_of: Annotated[
        str, typer.Option(help="Time of the request (UTC); that of the online store when not given.")
    ] = "",
    online: Online = "",
    as_json: Json = False,
) -> None:
    """Features as a request would see them: `--<entity> ID`, and `--<item>s A,B` where the problem has items.

    Unknown entities are shown as such; the exit code is 0.
    """
    project = open_project()
    card = project.problem(problem).card
    given = _options(context.args)
    item = card.framing.item
    known = {card.framing.entity, *([f"{item}s"] if item else [])}
    unknown = sorted(set(given) - known)
    if unknown or card.framing.entity not in given:
        wanted = " ".join(f"--{name} …" for name in sorted(known))
        raise UsageError(
            f"lookup of {problem} takes {wanted}", cause=f"not understood: {', '.join(unknown)}" if unknown else ""
        )
    items = tuple(part for part in given.get(f"{item}s", "").split(",") if part) if item else ()
    moment = moment_of(as_of).replace(tzinfo=None) if as_of else None
    found = look_up(project, Asked(problem, given[card.framing.entity], items, moment, online))
    if as_json:
        show_json([one.as_dict() for one in found])
        return
    for one in found:
        _show(one)


def _options(arguments: list[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs."""
    pairs: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            raise UsageError(f"{argument} is not an option", hint="write options as --name value")
        name, equals, value = argument[2:].partition("=")
        pairs[name] = value if equals else next(rest, "")
        if not pairs[name]:
            raise UsageError(f"--{name} needs a value")
    return pairs


def _show(found: Found) -> None:
    title = f"{found.kind} {found.id}" + ("" if found.known else " (unknown: cold-start defaults apply)")
    rows = [
        (value.view, value.feature, _readable(value.value), value.status, _minute(value.time)) for value in found.values
    ]
    show_table(title, ("view", "feature", "value", "status", "as of (UTC)"), rows)


def _minute(time: str | None) -> str:
    """A stored time to the minute; all of them are UTC."""
    return time[:16].replace("T", " ") if time else ""


def _readable(value: Any) -> str:  # noqa: ANN401 - any feature type
    if value is None:
        return "-"
    if isinstance(value, list):
        head = ", ".join(_readable(one) for one in value[:_SHOWN_ELEMENTS])
        return f"[{head}{', …' if len(value) > _SHOWN_ELEMENTS else ''}] ({len(value)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.endswith("+00:00"):
        return _minute(value)
    return str(value)


__all__ = ["app", "out"]
