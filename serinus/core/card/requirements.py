"""Step 1, requirements: what the system is for, and the numbers by which the business will judge it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from serinus.core.fields import CardPart
from serinus.core.kpi import Kpi

# The page of a card whose KPIs name none.
USUAL_K = 10


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
    def k(self) -> int:
        """The places that count where no single KPI is asked: that of the first goal with one, else of the first KPI
        with one. By it evaluation, gates and baselines measure.
        """
        return _page(self.kpis)

    @field_validator("kpis")
    @classmethod
    def _on_that_page(cls, kpis: tuple[Kpi, ...]) -> tuple[Kpi, ...]:
        page = {"k": _page(kpis)}
        return tuple(kpi.model_copy(update=page) if kpi.formula.k_of_card and not kpi.k else kpi for kpi in kpis)

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


def _page(kpis: tuple[Kpi, ...]) -> int:
    goals_first = sorted(kpis, key=lambda kpi: kpi.role != "goal")
    return next((kpi.k for kpi in goals_first if kpi.k and kpi.formula.has_k), USUAL_K)
