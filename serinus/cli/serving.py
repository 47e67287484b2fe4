"""`serinus serve|predict|bucket`: a predictor, a request to it, and the bucket of a unit."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape

from serinus.cli.output import HIGHEST_PORT, Service, command, err, out, show_json, show_table
from serinus.client import Client, Refused, Unreachable, bucket_of
from serinus.client.written import number
from serinus.core.errors import NotFound, SerinusError, Unavailable, UsageError
from serinus.core.names import ServiceRef
from serinus.features.keys import fault_of
from serinus.wiring.project import open_project
from serinus.wiring.services import service_of
from serinus.wiring.serving import Wish, choose, id_kinds, predictor_command, settings_of
from serinus.wiring.warned import failed_warnings

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Endpoint = Annotated[str, typer.Option(help="Address of the predictor, or of the gateway before it.")]
HERE = "http://127.0.0.1:8080"
IDS = "the written form of an id: docs/concepts/inputs.md"


@command
def serve(
    service: Service,
    version: Annotated[str, typer.Option(help="Version or alias; what is in service when not given.")] = "",
    bundle: Annotated[str, typer.Option(help="Folder of a bundle, instead of a version.")] = "",
    online: Annotated[str, typer.Option(help="Online store: a path or redis://…; that of Feast's configuration.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=HIGHEST_PORT, help="HTTP port.")] = 8080,
    grpc_port: Annotated[int, typer.Option(min=0, max=HIGHEST_PORT, help="gRPC port; 0 for none.")] = 8081,
    accept_event_time: Annotated[
        bool, typer.Option("--accept-event-time", help="Take as_of from requests: for replays only.")
    ] = False,
) -> None:
    """Serves a model by KServe's protocols until SIGTERM or Ctrl-C; logs every exposure."""
    if version and bundle:
        raise UsageError("--version and --bundle exclude each other")
    if port == grpc_port:
        raise UsageError(f"--port and --grpc-port are both {port}", hint="--grpc-port 0 leaves gRPC out")
    wish = Wish(ServiceRef.parse(service), version, bundle, online, accept_event_time)
    project = open_project()
    choice = choose(project, wish)
    settings = settings_of(project, wish, choice, host=host, http_port=port, grpc_port=grpc_port)
    err.print(f"[dim]version {choice.version}: {escape(choice.why)}[/]", soft_wrap=True)
    warned = failed_warnings(project, service_of(project, wish.service).problem, choice.version)
    if warned:
        err.print(f"[yellow]version {choice.version} failed warnings: {escape(warned)}[/]", soft_wrap=True)
    arguments = predictor_command(project.root, choice.template, settings)
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # the predictor keeps this process's id and signals


@command
def predict(
    service: Service,
    entity: Annotated[str, typer.Option(help="Who is asked about.")],
    items: Annotated[str, typer.Option(help="Items to rank, separated by commas.")] = "",
    unit: Annotated[str, typer.Option(help="Who is assigned to an arm; the entity when not given.")] = "",
    context: Annotated[list[str] | None, typer.Option(help="A value that the request carries: NAME=NUMBER.")] = None,
    as_of: Annotated[str, typer.Option(help="Event time, for servers that take it.")] = "",
    endpoint: Endpoint = HERE,
    as_json: Json = False,
) -> None:
    """Asks a predictor and shows the ranking, with what it had to do without."""
    known = service_of(open_project(), ServiceRef.parse(service))
    wanted = [part.strip() for part in items.split(",") if part.strip()]
    try:
        with Client(endpoint, service=known.ref.name, salt=known.salt, tries=1) as client:
            answer = client.predict(entity, wanted, unit=unit, context=_context(context or []), as_of=as_of)
    except (Refused, Unreachable, ValueError) as fault:
        raise _told(fault, endpoint) from fault
    if as_json:
        show_json(answer)
        return
    _show(service, entity, answer)


@command
def bucket(service: Service, unit: str, as_json: Json = False) -> None:
    """The bucket of a unit: what a caller sends as x-serinus-bucket."""
    project, ref = open_project(), ServiceRef.parse(service)
    known, fault = service_of(project, ref), fault_of(id_kinds(project, ref).unit, unit)
    if fault:
        raise UsageError(f"{unit!r} is no id of a unit of {service}", cause=fault, hint=IDS)
    found = bucket_of(known.salt, unit)
    if as_json:
        show_json({"unit": unit, "bucket": f"{found:03d}", "salt": known.salt})
        return
    out.print(f"{found:03d}")
    err.print(f"[dim]salt {known.salt}; send the header x-serinus-bucket: {found:03d}[/]")


def _context(given: list[str]) -> dict[str, float]:
    try:
        return {name: number(json.loads(value)) for name, _, value in (one.partition("=") for one in given)}
    except (ValueError, RecursionError) as fault:
        raise UsageError(
            "a value of the context is NAME=NUMBER", cause=str(fault), hint="--context amount=12.5"
        ) from fault


def _told(fault: Exception, endpoint: str) -> SerinusError:
    """A client's fault as one with an exit code."""
    if isinstance(fault, Refused):
        kind = NotFound if fault.status == 404 else UsageError if fault.status < 500 else Unavailable
        return kind(f"{endpoint} refused the request (HTTP {fault.status})", cause=fault.body[:1000])
    if isinstance(fault, Unreachable):
        return Unavailable(f"no answer from {endpoint}", cause=str(fault), hint="`serinus serve` starts a predictor")
    return UsageError(str(fault))


def _show(service: str, entity: str, answer: dict[str, Any]) -> None:
    flags = answer["flags"]
    said = [f"bucket {flags['bucket']}"] + (["cold start: defaults were used"] if flags["cold_start"] else [])
    if flags.get("unknown_items"):
        said.append(f"unknown items: {', '.join(flags['unknown_items'])}")
    for what, count in flags.get("defaulted", {}).items():
        stored = f"{what}: {count} by default (row missing, expired or unfit)"
        said.append(f"{what} was not sent" if what.startswith("context.") else stored)
    title = f"{service}, {entity}: version {answer['model_version']} ({answer['revision']})"
    if "items" in answer:
        rows = [(place, one["item"], f"{one['probability']:.4f}") for place, one in enumerate(answer["items"], 1)]
        show_table(title, ("rank", "item", "probability"), rows, right=("rank", "probability"))
    else:
        out.print(f"{title}: probability {answer['probability']:.4f}")
    out.print(f"request {answer['request_id']}; {'; '.join(said)}", style="dim", soft_wrap=True)
