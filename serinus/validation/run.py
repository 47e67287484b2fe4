"""Judges a table by a suite of a contract.

Invariant: the verdict has one check for each question of the suite; rows are set aside only by rules that say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from serinus.core.errors import ContractViolation
from serinus.core.verdict import Check, Outcome, stopping
from serinus.validation import quarantine
from serinus.validation.contract import Suite
from serinus.validation.expectations import ask
from serinus.validation.plan import plan
from serinus.validation.rules import RowRule
from serinus.validation.wording import check_of


@dataclass(frozen=True)
class Verdict:
    """Checks in the order of the suite (schema, rows, then its rules); the rows accepted, and those set aside with
    `_reasons` and `_row`. `seconds` is the time that judging took."""

    suite: str
    checks: tuple[Check, ...]
    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    seconds: float

    def require(self, where: str) -> None:
        """Raises `ContractViolation` when a critical check failed or could not be made; `where` names the source."""
        found = stopping(self.checks)
        if not found:
            return
        more = f"; {len(found) - 1} more" if len(found) > 1 else ""
        raise ContractViolation(
            f"{where} breaks its contract (suite {self.suite}): {found[0].line()}{more}",
            cause="\n".join(check.line() for check in found),
            hint="repair the source, or change the contract if the data is right: docs/reference/contracts.md",
        )

    def write_quarantine(self, path: Path) -> None:
        """Writes the quarantined rows (perhaps none) as parquet."""
        quarantine.write(self.quarantined, path)


def validate(
    suite: Suite, frame: pd.DataFrame, *, snapshot_time: datetime, clock: Callable[[], float] = time.perf_counter
) -> Verdict:
    """The verdict of `suite` on `frame`.

    `snapshot_time` is when the data was taken (UTC when it has no zone): freshness is measured from it.
    """
    start = clock()
    asked = plan(suite, frame, snapshot_time)
    checks = tuple(
        check_of(question, finding, asked.snapshot_time)
        for question, finding in zip(asked.questions, ask(asked), strict=True)
    )
    setting_aside = [
        question
        for question, check in zip(asked.questions, checks, strict=True)
        if isinstance(question.rule, RowRule) and question.rule.quarantine and check.outcome is not Outcome.ERROR
    ]
    accepted, quarantined = quarantine.split(frame, setting_aside, asked.tables["rows"])
    return Verdict(suite.name, checks, accepted, quarantined, clock() - start)
