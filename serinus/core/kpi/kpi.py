"""A KPI of a card: a formula with its parameters, and how a rollout is to judge by it.

Invariant: a KPI that loads has all that its formula needs.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from serinus.core.fields import CardPart, Direction, Duration, Feature, Name, Share
from serinus.core.kpi.formula import Formula, Role
from serinus.core.kpi.formulas import formula_of

# What a field of a KPI says, for the message that it is missing.
_SAYS = {
    "k": ", how many of the first places count",
    "cap": ", the most that one request counts",
    "threshold_ms": ", the time above which an answer is slow",
    "window": ", the days in which a return counts",
    "outcome": ", the name of the outcomes that count",
}


def _formula(value: object) -> Formula:
    if isinstance(value, Formula):
        return value
    return formula_of(str(value))


Written = Annotated[Formula, PlainValidator(_formula), PlainSerializer(str, return_type=str)]


class Kpi(CardPart):
    """One measure of a rollout. Margins are relative to the stable arm's mean (0.10 = ten per cent).

    A goal must be shown not to be worse, a guardrail must not be shown to be worse, and a report is measured only.
    `window` is how long outcomes count (the label's maturity when not given), `outcome` the name of those that count
    (the label's when not given). `tau` is the relative effect the test is tuned to: it fits effects of a third to
    three times as much; a bound is valid with any. `covariate`, `view:feature` of the entity, explains a part of it.
    """

    name: Name
    formula: Written
    direction: Direction
    role: Role
    per: Literal["unit", "request"]
    k: Annotated[int, Field(ge=1, le=500)] | None = None
    cap: Annotated[float, Field(gt=0)] | None = None
    threshold_ms: Annotated[float, Field(gt=0)] | None = None
    window: Duration = timedelta(0)
    outcome: Name | None = None
    non_inferiority_margin: Share | None = None
    harm_margin: Share = 0.0
    tau: Annotated[float, Field(gt=0, le=1)] = 0.10
    covariate: Feature | None = None
    burn_in_units: Annotated[int, Field(ge=1)] = 30
    look_every: Annotated[int, Field(ge=1)] = 50

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of KPI rows that it fills: its own, or the two sums whose quotient it is."""
        return tuple(self.name + part for part in self.formula.columns)

    def metric(self, label: str) -> str:
        """The metric of evaluation, which knows the label's outcomes alone, that is the same figure (`hits_at_10`);
        empty when none is.
        """
        family = self.formula.metric if self.outcome in (None, label) else ""
        return f"{family}_at_{self.k}" if family and self.k and self.formula.has_k else family

    def judged_in_shadow(self, *, independent_outcomes: bool) -> bool:
        """Whether mirrored answers tell it (D9): nobody saw them, so they have no outcome of their own, and where
        outcomes are those of a log, nobody does anything because of an answer that was not shown.
        """
        return self.formula.known_at_once or (independent_outcomes and self.formula.survives_shadow)

    @model_validator(mode="after")
    def _complete(self) -> Kpi:
        guards = self.formula.guards
        for field in guards.needs:
            if not getattr(self, field):
                raise ValueError(f"formula {self.formula} needs {field}{_SAYS.get(field, '')}")
        if self.role == "goal" and self.non_inferiority_margin is None:
            raise ValueError("a goal needs non_inferiority_margin: the loss you could accept, as a share of the mean")
        if guards.report_only and self.role != "report":
            raise ValueError(f"{self.formula} {guards.report_only}: role must be report")
        return self
