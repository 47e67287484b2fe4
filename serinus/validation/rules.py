"""The rules of a data contract, one typed declaration each.

Invariant: a rule is data; it names columns and limits and holds no code, so the same declaration is compiled for Great
Expectations, for the quarantine and for a reader.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from serinus.core.fields import CardPart, Duration, Share
from serinus.core.verdict import Severity
from serinus.validation.kinds import ANY_KIND, NUMERIC, ORDERED, Kind, Scalar, scalar_kind

_LARGEST = sys.float_info.max
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(min_length=1)]


def _in_utc(value: float | datetime) -> float | datetime:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value


FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]
# Whole numbers stay whole: a double would move a bound near 2**53.
Bound = Annotated[int | FiniteNumber | datetime, AfterValidator(_in_utc)]


class BaseRule(CardPart):
    """What all rules share. `name` replaces the name made from the rule and its columns."""

    rule: str
    name: str = ""
    severity: Severity = Severity.CRITICAL
    needs: ClassVar[frozenset[Kind]] = ANY_KIND

    def reads(self) -> tuple[str, ...]:
        """The declared columns that the rule reads; empty when it takes every numeric column."""
        return ()

    @property
    def title(self) -> str:
        """The name of the rule's check."""
        return self.name or self._default_name()

    def _default_name(self) -> str:
        return " ".join((*self.reads(), self.rule))


class OneColumn(BaseRule):
    """A rule about one column."""

    column: Column

    def reads(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)


class SomeColumns(BaseRule):
    """A rule about the numeric columns named; by default about all that the table has, declared or not."""

    columns: tuple[Column, ...] = ()
    needs: ClassVar[frozenset[Kind]] = NUMERIC

    def reads(self) -> tuple[str, ...]:
        """The columns named."""
        return self.columns


class RowRule(BaseRule):
    """A rule that single rows keep or break; a row whose value is null does not break it, except `not_null`.

    `budget` is the share of the rows judged that may break it. `quarantine` sets these rows aside, and makes the rule
    critical: more of them than the budget is a fault of the source, not of the rows.
    """

    budget: Share = 0.0
    quarantine: bool = False

    @model_validator(mode="after")
    def _quarantine_is_critical(self) -> RowRule:
        if self.quarantine and self.severity is not Severity.CRITICAL:
            raise ValueError("a rule with quarantine is critical: remove severity, or remove quarantine")
        return self


class Limits(CardPart):
    """Bounds of a measured figure, both included; one may be left out."""

    min: FiniteNumber | None = None
    max: FiniteNumber | None = None

    @model_validator(mode="after")
    def _some_and_in_order(self) -> Limits:
        _check_bounds(self.min, self.max)
        return self


class NotNull(OneColumn, RowRule):
    """The column has a value."""

    rule: Literal["not_null"]


class Range(OneColumn, RowRule):
    """Values lie between `min` and `max`, both included: numbers, or times for a time column.

    An infinity lies between nothing, also where a bound was left out.
    """

    rule: Literal["range"]
    min: Bound | None = None
    max: Bound | None = None
    needs: ClassVar[frozenset[Kind]] = ORDERED

    @model_validator(mode="after")
    def _comparable(self) -> Range:
        _check_bounds(self.min, self.max)
        return self

    def bound(self) -> Bound:
        """One of the bounds, whichever there is."""
        return self.min if self.min is not None else self.max or 0.0

    def limits(self) -> tuple[Bound | None, Bound | None]:
        """Both bounds; of numbers, the largest finite ones where they were left out."""
        return (self.min, self.max) if isinstance(self.bound(), datetime) else finite_limits(self.min, self.max)


class OneOf(OneColumn, RowRule):
    """Values belong to a list."""

    rule: Literal["one_of"]
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    @field_validator("values", mode="after")
    @classmethod
    def _one_kind(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len({scalar_kind(value) for value in values}) > 1:
            raise ValueError("values mix kinds; quote every text (YAML reads NO, on, 1.10 as something else)")
        return values


class Regex(OneColumn, RowRule):
    """The whole text matches a regular expression."""

    rule: Literal["regex"]
    pattern: Annotated[str, Field(min_length=1)]
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.TEXT})

    @field_validator("pattern", mode="after")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(rf"\A(?:{pattern})\Z")  # as it will be used: flags such as (?i) must stand in a group
        except re.error as fault:
            raise ValueError(f"not a regular expression: {fault}") from fault
        return pattern


class Unique(RowRule):
    """No two rows have the same key. Every row of a repeated key breaks the rule: none of them can be trusted more."""

    rule: Literal["unique"]
    columns: Columns

    def reads(self) -> tuple[str, ...]:
        """The key."""
        return self.columns

    def _default_name(self) -> str:
        return (
            f"unique {', '.join(self.columns)}"
            if len(self.columns) <= 4
            else f"unique over {len(self.columns)} columns"
        )


class Finite(SomeColumns, RowRule):
    """Numbers are there and finite: neither null, NaN nor infinite."""

    rule: Literal["finite"]


class Freshness(OneColumn):
    """The newest time is at most `within` before the snapshot was taken, and not after it."""

    rule: Literal["freshness"]
    within: Duration
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.TIME})


def finite_limits(low: Bound | None, high: Bound | None) -> tuple[Bound, Bound]:
    """Bounds of numbers that no infinity lies between."""
    return -_LARGEST if low is None else low, _LARGEST if high is None else high


class Statistic(OneColumn, Limits):
    """A figure of one column between limits. `where` keeps only the rows in which these columns have these values."""

    where: dict[Column, Scalar] = Field(default_factory=dict)

    def reads(self) -> tuple[str, ...]:
        """The column and those of the condition."""
        return (self.column, *self.where)

    def _default_name(self) -> str:
        condition = ", ".join(f"{column} = {value}" for column, value in self.where.items())
        return f"{self.column} {self._figure()}" + (f" where {condition}" if condition else "")

    def _figure(self) -> str:
        return self.rule


class ShareOf(Statistic):
    """The share of one value among the values that are not null."""

    rule: Literal["share"]
    value: Scalar

    def _figure(self) -> str:
        return f"share of {self.value}"


class Distinct(Statistic):
    """The number of different values."""

    rule: Literal["distinct"]


class Mean(Statistic):
    """The mean."""

    rule: Literal["mean"]
    needs: ClassVar[frozenset[Kind]] = NUMERIC


class Quantile(Statistic):
    """The quantile `q`, linear between neighbours."""

    rule: Literal["quantile"]
    q: Annotated[float, Field(ge=0, le=1)]
    needs: ClassVar[frozenset[Kind]] = NUMERIC

    def _figure(self) -> str:
        return f"quantile {self.q:g}"


class Varied(SomeColumns):
    """No column has one value in more than `max_share` of its rows.

    Finds a feature group that was looked up as null and became its default everywhere.
    """

    rule: Literal["varied"]
    max_share: Annotated[float, Field(ge=0.5, le=1)] = 0.999


Rule = Annotated[
    NotNull | Range | OneOf | Regex | Unique | Finite | Freshness | ShareOf | Distinct | Mean | Quantile | Varied,
    Field(discriminator="rule"),
]


def _check_bounds(low: Bound | None, high: Bound | None) -> None:
    if low is None and high is None:
        raise ValueError("needs min, max or both")
    if low is None or high is None:
        return
    if isinstance(low, datetime) or isinstance(high, datetime):
        if not (isinstance(low, datetime) and isinstance(high, datetime)):
            raise ValueError("min and max must both be times or both be numbers")
        if low > high:
            raise ValueError(f"min {low} is after max {high}")
    elif low > high:
        raise ValueError(f"min {low:g} is above max {high:g}")


def repeated(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    return sorted({name for name in names if names.count(name) > 1})
