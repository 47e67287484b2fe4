"""A finding as a person reads it: what was measured against what is allowed.

Invariant: a check says pass only where GX evaluated it and the limits hold; an error says what was in the way.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from serinus.core.verdict import Check, Outcome
from serinus.validation.expectations import Finding
from serinus.validation.plan import HasKind, NoOthers, Question, RowCount
from serinus.validation.rules import (
    Bound,
    Finite,
    Freshness,
    Limits,
    NotNull,
    OneOf,
    Range,
    Regex,
    RowRule,
    ShareOf,
    Unique,
    Varied,
)

_MANY = 5


def check_of(question: Question, finding: Finding, snapshot: pd.Timestamp) -> Check:
    """The check that a question and its finding make."""
    rule = question.rule
    outcome = Outcome.ERROR if finding.error else Outcome.PASS if finding.holds else Outcome.FAIL
    details: dict[str, Any] = {"rule": rule.rule}
    if finding.examples and outcome is Outcome.FAIL:
        details["examples"] = list(finding.examples)
    if isinstance(rule, RowRule):
        details |= {"rows": finding.considered, "broken": finding.unexpected, "quarantine": rule.quarantine}
    if isinstance(rule, Finite | Varied) and question.found:
        details["columns"] = dict(question.found)
    return Check(
        name=rule.title,
        outcome=outcome,
        severity=rule.severity,
        measured="not evaluated" if finding.error else _measured(question, finding),
        allowed=_allowed(question, snapshot),
        reason=finding.error,
        details=details,
    )


def _measured(question: Question, finding: Finding) -> str:
    rule = question.rule
    if isinstance(rule, HasKind):
        return str(question.found[rule.column])
    if isinstance(rule, NoOthers):
        return _some([str(column) for column in question.found])
    if isinstance(rule, RowRule):
        share = f", {percent(finding.unexpected / finding.considered)}" if finding.unexpected else ""
        where = f" ({_some(list(question.found))})" if question.found else ""
        return f"{finding.unexpected:,} of {finding.considered:,} rows {_fault(rule)}{where}{share}"
    if isinstance(rule, Varied):
        return f"{percent(float(finding.observed))} in {_some(list(question.found))}"
    if isinstance(rule, ShareOf):
        return percent(float(finding.observed))
    return figure(finding.observed)


def _fault(rule: RowRule) -> str:
    words = {NotNull: "null", Range: "outside", OneOf: "not listed", Regex: "unlike it", Unique: "repeated"}
    return words.get(type(rule), "not finite")


def _allowed(question: Question, snapshot: pd.Timestamp) -> str:
    match question.rule:
        case HasKind(kind=kind):
            return kind.value
        case NoOthers():
            return "none"
        case RowCount(limits=limits):
            return interval(limits.min, limits.max)
        case RowRule() as rule:
            return _kept(rule)
        case Freshness(within=within):
            return interval(snapshot - within, snapshot)
        case Varied(max_share=share):
            return f"one value in at most {percent(share)} of rows"
        case ShareOf(min=low, max=high):
            return interval(low, high, percent)
        case Limits(min=low, max=high):
            return interval(low, high)
    raise TypeError(f"no words for {question.rule}")


def _kept(rule: RowRule) -> str:
    """`0 to 5 in all but 1% of rows`; where the name of the rule says it all, `at most 1% of rows`."""
    match rule:
        case Range(min=low, max=high):
            wanted = interval(low, high)
        case OneOf(values=values):
            wanted = "one of " + _some([str(value) for value in values])
        case Regex(pattern=pattern):
            wanted = f"like {pattern}"
        case _:
            return f"at most {percent(rule.budget)} of rows" if rule.budget else "none"
    return wanted + (f" in all but {percent(rule.budget)} of rows" if rule.budget else "")


def interval(low: Bound | None, high: Bound | None, words: Any = None) -> str:  # noqa: ANN401
    """`1 to 5`, `at least 1` or `at most 5`."""
    say = words or figure
    if low is None:
        return f"at most {say(high)}"
    return f"at least {say(low)}" if high is None else f"{say(low)} to {say(high)}"


def figure(value: object) -> str:
    """A number to six digits, thousands apart; a time to the minute, or the second where it has any."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S" if value.second else "%Y-%m-%d %H:%M")
    if isinstance(value, timedelta | str):
        return str(value)
    number = float(str(value))
    return f"{int(number):,}" if abs(number) < 1e15 and number == int(number) else f"{number:,.6g}"


def percent(share: float) -> str:
    """Enough digits to tell a small share from none and a large one from all."""
    shown = f"{share:.2%}"
    if shown in ("0.00%", "100.00%") and share not in (0.0, 1.0):
        return f"{share * 100:.3g}%" if share < 0.5 else f"{share * 100:.6g}%"
    return shown.removesuffix("%").rstrip("0").rstrip(".") + "%"


def _some(names: list[str]) -> str:
    tail = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + tail if names else "none"
