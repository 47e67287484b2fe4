"""Step 1, requirements: what the system is for, and the numbers by which the business will judge it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from serinus.core.card.base import CardPart, Direction, Duration, Feature, Name, Share

KpiFormula = Literal[
    "ctr",
    "hits_at_k",
    "top_1",
    "any_hit_at_k",
    "conversion",
    "revenue",
    "return_within",
    "log_loss",
    "calibration",
    "error_rate",
    "latency_slo",
    "cold_start_share",
    "defaulted_share",
]


class Kpi(CardPart):
    """One measure of a rollout. Margins are relative to the stable arm's mean (0.10 = ten per cent).

    A goal must be shown not to be worse, a guardrail must not be shown to be worse, and a report is measured only.
    `window` is how long outcomes count (the label's maturity when not given), `outcome` the name of those that count
    (the label's when not given). `tau` is the relative effect the test is tuned to: it fits effects of a third to
    three times as much; a bound is valid with any. `covariate`, `view:feature` of the entity, explains a part of it.
    """

    name: Name
    formula: KpiFormula
    direction: Direction
    role: Literal["goal", "guardrail", "report"]
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
    def known_at_once(self) -> bool:
        """Known with the answer itself: no outcome can change it."""
        return self.formula in ("error_rate", "latency_slo", "cold_start_share", "defaulted_share")

    @property
    def is_share(self) -> bool:
        """Whether it lies within 0 and 1: each request (or item shown) has it or has it not."""
        return self.formula not in ("hits_at_k", "revenue", "log_loss", "calibration")

    @property
    def least_effect(self) -> float:
        """The greatest loss there can be, relative to what is: all of it, but of amounts, which refunds can turn."""
        return float("-inf") if self.formula == "revenue" else -1.0

    @property
    def counted(self) -> bool:
        """Judged by counts of incidents, not by means."""
        return self.formula in ("error_rate", "latency_slo")

    def judged_in_shadow(self, *, independent_outcomes: bool) -> bool:
        """Whether mirrored answers tell it (D9): nobody saw them, so they have no outcome of their own, and where
        outcomes are those of a log, nobody comes back because of an answer that was not shown.
        """
        return self.known_at_once or (independent_outcomes and self.formula != "return_within")

    @model_validator(mode="after")
    def _complete(self) -> Kpi:
        needs = {"ctr": "k", "hits_at_k": "k", "any_hit_at_k": "k", "revenue": "cap", "latency_slo": "threshold_ms"}
        field = needs.get(self.formula)
        if field and getattr(self, field) is None:
            raise ValueError(f"formula {self.formula} needs {field}")
        if self.role == "goal" and self.non_inferiority_margin is None:
            raise ValueError("a goal needs non_inferiority_margin: the loss you could accept, as a share of the mean")
        if self.formula == "defaulted_share" and self.role != "report":
            raise ValueError("defaulted_share tells of callers and of the store, not of a model: role must be report")
        if self.formula == "return_within" and not self.window:
            raise ValueError("return_within needs window, the days in which a return counts")
        return self


class Latency(CardPart):
    """The budget of one request with `items` candidates, measured at the predictor, in milliseconds.

    Evaluation times requests of `items` rows; nothing reads the two budgets yet.
    """

    p50_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    items: Annotated[int, Field(ge=1, le=500)] = 1


class Requirements(CardPart):
    """Goal, users, KPIs and budgets."""

    goal: Annotated[str, Field(min_length=10)]
    users: Annotated[str, Field(min_length=3)]
    kpis: Annotated[tuple[Kpi, ...], Field(min_length=1)]
    latency: Latency = Latency()
    throughput_rps: Annotated[float, Field(gt=0)] | None = None

    @property
    def covariates(self) -> tuple[str, ...]:
        """The stored features that any KPI names, in order: what predictors log with each exposure."""
        return tuple(sorted({kpi.covariate for kpi in self.kpis if kpi.covariate}))

    @model_validator(mode="after")
    def _judgeable(self) -> Requirements:
        names = [kpi.name for kpi in self.kpis]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"KPI names must differ; repeated: {', '.join(repeated)}")
        if not any(kpi.role == "goal" for kpi in self.kpis):
            raise ValueError("at least one KPI needs role: goal, or no rollout could ever advance")
        return self
