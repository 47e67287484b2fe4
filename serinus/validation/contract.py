"""A data contract: named suites, each saying what one table must look like.

Invariant: a contract that loads refers only to columns it declares, with rules that fit their kinds; so a misspelt name
is a fault of the contract, told before any data is read, and never looks like bad data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from serinus.core.card.problem import explain
from serinus.core.errors import CardError
from serinus.core.fields import CardPart, Name
from serinus.validation.kinds import NUMERIC, Kind, scalar_kind
from serinus.validation.rules import BaseRule, Column, OneOf, Range, Rule, ShareOf, Statistic, repeated

SUITES = ("raw", "training")


class Rows(CardPart):
    """The number of rows, limits included. At least one is always wanted: an empty table would break no row rule."""

    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Rows:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Suite(CardPart):
    """What one table must look like. Schema and number of rows are critical; each rule has its own severity."""

    name: str = ""
    columns: Annotated[dict[Column, Kind], Field(min_length=1)]
    other_columns: Literal["allowed", "forbidden"] = "forbidden"
    rows: Rows = Rows()
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _rules_fit(self) -> Suite:
        faults = [
            f"rules[{place}] ({rule.title}): {fault}"
            for place, rule in enumerate(self.rules)
            for fault in self._faults(rule)
        ]
        same = repeated([rule.title for rule in self.rules])
        faults += [f"two rules are called '{name}'; give one of them a name" for name in same]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self, rule: BaseRule) -> list[str]:
        unknown = [column for column in rule.reads() if column not in self.columns]
        if unknown:
            return [f"column {column} is not declared in columns" for column in unknown]
        judged = rule.reads()[:1] if isinstance(rule, Statistic) else rule.reads()
        wrong = [column for column in judged if self.columns[column] not in _wanted(rule)]
        wanted = " or ".join(sorted(_wanted(rule)))
        return [f"needs a column of {wanted}; {column} is {self.columns[column]}" for column in wrong] + [
            f"where: {value!r} cannot occur in {column}, which is {self.columns[column]}"
            for column, value in (rule.where.items() if isinstance(rule, Statistic) else ())
            if self.columns[column] not in scalar_kind(value)
        ]


def _wanted(rule: BaseRule) -> frozenset[Kind]:
    """The kinds of column to which a rule with its values can be applied."""
    if isinstance(rule, Range):
        return frozenset({Kind.TIME}) if isinstance(rule.bound(), datetime) else NUMERIC
    if isinstance(rule, OneOf):
        return scalar_kind(rule.values[0])
    if isinstance(rule, ShareOf):
        return scalar_kind(rule.value)
    return rule.needs


class Contract(CardPart):
    """The contract of a problem: `raw` judges the source, `training` the rows that models see."""

    suites: dict[Name, Suite]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: object) -> object:
        """Suites know their names, which the headlines of their verdicts need."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("suites"), Mapping):
            return raw
        named = {
            name: {**suite, "name": str(name)} if isinstance(suite, Mapping) else suite
            for name, suite in raw["suites"].items()
        }
        return {**raw, "suites": named}

    @model_validator(mode="after")
    def _complete(self) -> Contract:
        missing = [name for name in SUITES if name not in self.suites]
        if missing:
            raise ValueError(f"suites lacks {' and '.join(missing)}; a contract has {' and '.join(SUITES)}")
        return self


def parse_contract(raw: object, where: str = "contract.yaml") -> Contract:
    """The contract of an already parsed YAML document.

    Raises `CardError` with one line a fault: the field's path, what is wrong, and what was given.
    """
    hint = "the meaning of each field: docs/reference/contracts.md"
    if not isinstance(raw, Mapping):
        raise CardError(
            f"{where} is not a data contract", cause="the document is not a mapping with the field suites", hint=hint
        )
    try:
        return Contract.model_validate(dict(raw))
    except ValidationError as fault:
        lines = explain(fault)
        raise CardError(
            f"{where} has {len(lines)} fault{'s' if len(lines) > 1 else ''}", cause="\n".join(lines), hint=hint
        ) from fault
