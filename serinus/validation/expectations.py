"""Great Expectations: the only module that imports it. Questions in, findings out.

Invariant: whatever GX does, every question gets a finding, and a fault inside GX is an `error` of it, never bad data.
Known habits of GX 1.24.1 met here: importing it and matching groups warn; success may be a numpy value; a suite drops
expectations that look alike; an exception is reported as a failure, in one of two shapes, or raised; rules about rows
hold where no row has a value.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from serinus.validation.columns import accepted, naive_utc
from serinus.validation.plan import HasKind, NoOthers, Plan, Question, RowCount
from serinus.validation.rules import (
    Bound,
    Distinct,
    Finite,
    Freshness,
    Mean,
    NotNull,
    OneOf,
    Quantile,
    Range,
    Regex,
    RowRule,
    ShareOf,
    Unique,
    Varied,
    finite_limits,
)

with warnings.catch_warnings():
    # It loads a deprecated module of the standard library, and a cloud client that advises to install more of itself.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", ImportWarning)
    import great_expectations as gx
    from great_expectations import expectations
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

gxe: Any = expectations  # a package that exports its names implicitly
_NOTHING = "there is no value to judge"
_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 3}


@dataclass(frozen=True)
class Finding:
    """GX's answer.

    `error` is set when it could not evaluate; else `holds`, and either the figure `observed` or, for rules about rows,
    how many of the rows `considered` are `unexpected`, with `examples`.
    """

    holds: bool = False
    error: str = ""
    observed: Any = None
    considered: int = 0
    unexpected: int = 0
    examples: tuple[str, ...] = ()


def ask(plan: Plan) -> list[Finding]:
    """One finding a question, in order; one that is blocked is an error with its reason."""
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    source = context.data_sources.add_pandas("serinus")
    findings = {place: Finding(error=one.blocked) for place, one in enumerate(plan.questions) if one.blocked}
    for name, table in plan.tables.items():
        asked = {place: one for place, one in enumerate(plan.questions) if one.on == name and place not in findings}
        if asked:
            asset = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
            batch = asset.get_batch(batch_parameters={"dataframe": table})
            findings |= _of_batch(batch, asked, plan.snapshot_time)
    return [findings[place] for place in range(len(plan.questions))]


def _of_batch(batch: Any, asked: Mapping[int, Question], snapshot: pd.Timestamp) -> dict[int, Finding]:  # noqa: ANN401
    """All questions as one suite; those without an answer (the suite crashed, or dropped a twin) are asked alone."""
    compiled = {place: _expectation(one, snapshot, place) for place, one in asked.items()}
    suite = gx.ExpectationSuite(name="contract", expectations=list(compiled.values()))
    answers = _validated(batch, suite)
    results = [] if isinstance(answers, str) else answers.results
    found = {result.expectation_config.meta["place"]: _finding(result) for result in results}
    for place in compiled.keys() - found.keys():
        answer = _validated(batch, compiled[place])
        found[place] = Finding(error=answer) if isinstance(answer, str) else _finding(answer)
    return found


def _validated(batch: Any, asked: Any) -> Any:  # noqa: ANN401 - GX's objects have no stubs
    """GX's result, or the text of what it raised."""
    with warnings.catch_warnings():
        # A contract's pattern may have groups; pandas advises to extract them.
        warnings.filterwarnings("ignore", "This pattern is interpreted as a regular expression", UserWarning)
        try:
            return batch.validate(asked, result_format=_FORMAT)
        except Exception as crash:  # noqa: BLE001 - the edge to GX: whatever it raises is an error of the check (D15)
            return _one_line(f"{type(crash).__name__}: {crash}")


def _finding(result: Any) -> Finding:  # noqa: ANN401
    raised = _raised(result.exception_info or {})
    if raised:
        return Finding(error=raised)
    facts = result.result
    if "unexpected_count" in facts:
        considered = facts["element_count"] - facts.get("missing_count", 0)
        if not considered:
            return Finding(error=_NOTHING)
        return Finding(
            holds=bool(result.success),
            considered=considered,
            unexpected=facts["unexpected_count"],
            examples=tuple(dict.fromkeys(str(value) for value in facts["partial_unexpected_list"])),
        )
    if result.expectation_config.type == "expect_column_to_exist":
        return Finding(holds=bool(result.success))
    observed = facts.get("observed_value")
    if isinstance(observed, dict):  # quantiles
        observed = observed["values"][0]
    if observed is None or (isinstance(observed, float) and math.isnan(observed)):
        return Finding(error=_NOTHING)
    return Finding(holds=bool(result.success), observed=observed)


def _raised(info: Mapping[str, Any]) -> str:
    """The first message in either shape: one flat record, or records keyed by metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    return next((_one_line(str(r["exception_message"])) for r in records if r.get("raised_exception")), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300] or "no message"


def _expectation(question: Question, snapshot: pd.Timestamp, place: int) -> Any:  # noqa: ANN401
    """The expectation that a question is compiled to; `place` finds its result again."""
    rule = question.rule
    kind, arguments = _compiled(question, snapshot)
    if question.column and not isinstance(rule, Unique):
        arguments["column"] = question.column
    if isinstance(rule, RowRule):
        # A budget used up to the last row holds: the slack is far less than a row, and more than an error of rounding.
        arguments["mostly"] = max(0.0, 1.0 - rule.budget - 1e-12)
    return kind(**arguments, severity=rule.severity.value, meta={"place": place})


def _compiled(question: Question, snapshot: pd.Timestamp) -> tuple[type, dict[str, Any]]:
    match question.rule:
        case HasKind(kind=kind):
            if question.missing:
                return gxe.ExpectColumnToExist, {}
            return gxe.ExpectColumnValuesToBeInSet, {"value_set": accepted(kind)}
        case NoOthers(declared=declared):
            return gxe.ExpectTableColumnsToMatchSet, {"column_set": list(declared), "exact_match": True}
        case RowCount(limits=limits):
            return gxe.ExpectTableRowCountToBeBetween, _between(limits.min, limits.max)
        case NotNull():
            return gxe.ExpectColumnValuesToNotBeNull, {}
        case Finite():
            return gxe.ExpectColumnValuesToBeBetween, _between(0, 0)
        case Range() as rule:
            return gxe.ExpectColumnValuesToBeBetween, _between(*((0, 0) if question.flagged else rule.limits()))
        case OneOf(values=values):
            return gxe.ExpectColumnValuesToBeInSet, {"value_set": list(values)}
        case Regex(pattern=pattern):
            return gxe.ExpectColumnValuesToMatchRegex, {"regex": rf"\A(?:{pattern})\Z"}
        case Unique(columns=(key,)):
            return gxe.ExpectColumnValuesToBeUnique, {"column": key}
        case Unique(columns=keys):
            ignored = {"ignore_row_if": "all_values_are_missing"}
            return gxe.ExpectCompoundColumnsToBeUnique, {"column_list": list(keys), **ignored}
        case Freshness(within=within):
            return gxe.ExpectColumnMaxToBeBetween, _between(snapshot - within, snapshot)
        case Varied(max_share=share):
            return gxe.ExpectColumnMaxToBeBetween, _between(None, share)
        case Distinct(min=low, max=high):
            return gxe.ExpectColumnUniqueValueCountToBeBetween, _between(low, high)
        case Quantile(q=q, min=low, max=high):
            return gxe.ExpectColumnQuantileValuesToBeBetween, {
                "quantile_ranges": {"quantiles": [q], "value_ranges": [list(finite_limits(low, high))]},
                "allow_relative_error": "linear",  # in pandas this is the interpolation; the default takes a neighbour
            }
        case Mean(min=low, max=high) | ShareOf(min=low, max=high):
            return gxe.ExpectColumnMeanToBeBetween, _between(*finite_limits(low, high))


def _between(low: Bound | None, high: Bound | None) -> dict[str, Any]:
    bounds = {"min_value": low, "max_value": high}
    return {name: naive_utc(one) if isinstance(one, datetime) else one for name, one in bounds.items()}
