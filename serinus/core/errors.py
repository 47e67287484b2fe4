"""The one error tree: a known fault has a headline, a cause and a hint, and knows its exit code and HTTP status.

Invariant: a user sees headline, cause and hint of a `SerinusError`, never its traceback; anything else is a bug.
"""

from __future__ import annotations

from typing import ClassVar


class SerinusError(Exception):
    """A known fault. `headline` says what and where in one line, `cause` why, `hint` what to do next."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, headline: str, *, cause: str = "", hint: str = "") -> None:
        super().__init__(headline)
        self.headline, self.cause, self.hint = headline, cause, hint

    def as_dict(self) -> dict[str, str | int]:
        """The same text for machines (`--json`, journals, HTTP bodies)."""
        return {
            "error": type(self).__name__,
            "headline": self.headline,
            "cause": self.cause,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(SerinusError):
    """The caller asked for something that cannot be understood or configured."""

    exit_code = 2
    http_status = 400


class CardError(UsageError):
    """A problem card, contract or project file breaks its schema; one line a field."""


class DataError(SerinusError):
    """Data cannot be read, or is not what its reader was promised."""

    exit_code = 3
    http_status = 422


class ContractViolation(DataError):
    """A critical expectation of a data contract failed or could not be evaluated."""


class GateFailed(SerinusError):
    """A critical quality gate refused a model."""

    exit_code = 3
    http_status = 409


class ProblemCodeError(SerinusError):
    """A problem's own code raised, or gave back what it does not promise; `cause` names its file and line."""

    exit_code = 7
    http_status = 500


class NotFound(SerinusError):
    """A named thing (problem, version, bundle, run) does not exist."""

    exit_code = 4
    http_status = 404


class Conflict(SerinusError):
    """Another owner or an unfinished operation holds what was to be changed."""

    exit_code = 6
    http_status = 409


class Unavailable(SerinusError):
    """A system that Serinus depends on does not answer, or is not configured."""

    exit_code = 5
    http_status = 503


class BundleError(SerinusError):
    """A model bundle is damaged, of an unknown format, or does not reproduce its golden rows."""

    exit_code = 3
    http_status = 500
