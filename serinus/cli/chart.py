"""`serinus chart`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
import yaml

from serinus.cli.output import Service, command, show_json
from serinus.core.names import ServiceRef
from serinus.wiring.chart import Shares, chart_values
from serinus.wiring.project import open_project

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of YAML.")]


@command
def chart(
    service: Service,
    weight: Annotated[int, typer.Option(help="Per cent of the buckets for the second revision.")] = 0,
    hold_back: Annotated[int | None, typer.Option(help="Per cent that stays with the first; the card's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides which buckets; the card's own.")] = None,
    as_json: Json = False,
) -> None:
    """Values of helm/serinus for what this home has in service: revisions, and the route that divides users."""
    values = chart_values(open_project(), ServiceRef.parse(service), Shares(weight, hold_back, seed))
    if as_json:
        show_json(values)
        return
    told = f"# serinus chart {service} --weight {weight}\n"
    sys.stdout.write(told + yaml.safe_dump(values, sort_keys=False, width=1_000_000))
