"""How commands speak: tables and lines for people, one JSON document for machines, errors without tracebacks.

Invariant: with --json, standard output holds exactly one JSON document; a known fault prints headline, cause and hint
and ends with its own exit code.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from math import isfinite
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serinus.client.written import OUT_OF_RANGE, in_range, moment
from serinus.core.errors import SerinusError, UsageError
from serinus.wiring.disk_faults import accessible
from serinus.wiring.interrupts import guarded

P = ParamSpec("P")

# In a file or pipe there is no terminal to measure: tables keep their lines whole.
_PIPED = 130
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPED)


HIGHEST_PORT = 65_535
_MOST_NAME = 128
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_MOST_NAME - 1}}}")
# A command that means a service takes it as `ServiceRef.parse` does; the name of a problem is its usual service.
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Its name, or NAMESPACE/NAME.")]


def finite(value: float) -> float:
    """For the callback of an option: what is compared with bounds must be a number."""
    if not isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def require_name(thing: str, name: str) -> None:
    """Of a run or replay, whose folder has it too. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = f"letters, digits, dots, - and _ only, {_MOST_NAME} at most, the first a letter or digit"
        raise UsageError(f"{name} cannot name {thing}", hint=hint)


def moment_of(text: str) -> datetime:
    """Of an option that names a day or time (UTC). Raises `UsageError` for none, and outside of 1970 to 2199."""
    try:
        found = moment(text)
    except ValueError as fault:
        raise UsageError(f"{text} is not a day or time", hint="write 2011-10-03 or 2011-10-03T14:30") from fault
    if not in_range(found):
        raise UsageError(f"{text} is not a time of events", hint=f"it {OUT_OF_RANGE}")
    return found


def show_json(value: object) -> None:
    """The one document of a `--json` call."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """A table; columns named in `right` are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


def show_error(fault: SerinusError) -> None:
    """Headline, cause and hint on standard error."""
    err.print(f"[bold red]error:[/] {escape(fault.headline)}", soft_wrap=True)
    if fault.cause:
        err.print(escape(fault.cause), soft_wrap=True)
    if fault.hint:
        err.print(f"[dim]hint:[/] {escape(fault.hint)}", soft_wrap=True)


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Wraps a command: its number is the exit code, known faults are shown, Ctrl-C, SIGTERM and SIGHUP end with 130.

    With `as_json=True` among its arguments a fault is one JSON document, too.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        def work() -> int:
            try:
                with accessible():
                    return function(*args, **kwargs) or 0
            except SerinusError as fault:
                if kwargs.get("as_json"):
                    show_json(fault.as_dict())
                show_error(fault)
                return fault.exit_code

        sys.exit(guarded(work))

    return run
