"""One vocabulary for every check: contracts, gates and their severities.

Invariant: a check that could not be evaluated is `error`, never `fail`; either stops a run when critical (D15).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Outcome(StrEnum):
    """What a check found."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Severity(StrEnum):
    """What a failed check does: `critical` stops the run, `warning` tags the model version, `info` is only recorded."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Check(BaseModel):
    """One evaluated check: what was measured against what was allowed, both as a person would read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    outcome: Outcome
    severity: Severity
    measured: str = ""
    allowed: str = ""
    reason: str = ""
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True when the check gives no reason to act."""
        return self.outcome in (Outcome.PASS, Outcome.NOT_APPLICABLE)

    @property
    def stops(self) -> bool:
        """True when the run must not go on."""
        return not self.holds and self.severity is Severity.CRITICAL

    def line(self) -> str:
        """`name: measured (allowed …)`, the form used in headlines, tables and logs."""
        tail = f" (allowed {self.allowed})" if self.allowed else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.name} {self.outcome}: {self.measured}{tail}{why}".replace(": :", ":")


def stopping(checks: Iterable[Check]) -> list[Check]:
    """The checks that forbid going on, in the order given."""
    return [check for check in checks if check.stops]


def warnings(checks: Iterable[Check]) -> list[Check]:
    """The checks that ask for a tag on the model version."""
    return [check for check in checks if not check.holds and check.severity is Severity.WARNING]
