"""How the processes that servers run in begin and end: one settings document in, an exit code out.

Invariant: a known fault is told in its own words and exit code, never by a traceback. A server that a command of this
machine started ends with that command.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serinus.core.errors import SerinusError, UsageError
from serinus.wiring.disk_faults import accessible
from serinus.wiring.lifeline import follow

Settings = TypeVar("Settings", bound=BaseModel)


def run(arguments: list[str], kind: type[Settings], work: Callable[[Settings], int]) -> int:
    """Works by the settings in the first argument (JSON); the exit code."""
    log_to_stderr()
    follow()
    try:
        with accessible():
            return work(_settings(arguments, kind))
    except SerinusError as fault:
        sys.stderr.write("\n".join(part for part in (fault.headline, fault.cause, fault.hint) if part) + "\n")
        return fault.exit_code


def log_to_stderr() -> None:
    """A line an event; standard output is left to the one line that says where a server listens."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)


def _settings(arguments: list[str], kind: type[Settings]) -> Settings:
    try:
        return kind.model_validate_json(arguments[0] if arguments else "{}")
    except ValidationError as fault:
        raise UsageError("the settings of this process are not valid", cause=str(fault)) from fault
