"""How long a rollout will take, before it starts: units, requests, days by KPI and step, and the chance of no answer.

The estimate's path is simulated as a Brownian motion with drift over information (requests over variance), and looked
at on a geometric grid; a count test's path by Poisson draws. What is simulated is the very boundary that decides later.

Invariant: a plan is a function of baselines, policy, effects and the generator that is handed in; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from serinus.core.card.operation import Rollout, Step
from serinus.core.errors import DataError
from serinus.core.stats.boundary import half_width_one_sided
from serinus.core.stats.counts import mixture_log_e
from serinus.core.stats.estimate import Rule
from serinus.core.stats.judge import KpiTest
from serinus.core.stats.moments import BASE, COVARIATE, VALUE, WIDTH, Moments
from serinus.core.words import Stage

Floats = NDArray[np.float64]
Decision = Literal["non_inferior", "harm"]
PATHS = 2000
_LOOKS = 400
# Times are simulated this many horizons far, so that "needs three times as long" can be said.
_BEYOND = 30.0


class Baseline(BaseModel):
    """What is known of a KPI before a rollout, from one arm. A request stands for whatever its base counts.

    `variance`: of one request's share in the mean, over the mean's square, clustering by unit included; so a mean of n
    requests has the relative variance `variance / n`. `paired_variance`: the same of the difference of two answers to
    one request (shadow); None takes the arms as independent. `covariate_r2`: the share of the variance a covariate
    explains. `positive_share`: of units, those with a value above zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    variance: float = Field(ge=0)
    requests_per_unit: float = Field(gt=0)
    units_per_day: float = Field(gt=0)
    covariate_r2: float = Field(default=0.0, ge=0, le=1)
    paired_variance: float | None = Field(default=None, ge=0)
    positive_share: float = Field(default=1.0, gt=0, le=1)

    @classmethod
    def of(cls, moments: Moments, *, days: float, paired_variance: float | None = None) -> Baseline:
        """From the moments of one arm over `days`. DataError when there is too little to measure a variance."""
        total, units = moments.sums.sum(axis=0), moments.distinct
        if units < 2 or total[BASE] <= 0 or total[VALUE] <= 0:
            raise DataError(
                "the baseline has no mean and variance", cause=f"{units} units with a total {total[VALUE]:g}"
            )
        cross = _over_cells(moments)
        mean, covariate = total[VALUE] / total[BASE], total[COVARIATE] / total[BASE]
        value = np.array([1.0, -mean, 0.0])
        other = np.array([0.0, -covariate, 1.0])
        own, both, spread = value @ cross @ value, value @ cross @ other, other @ cross @ other
        return cls(
            mean=float(mean),
            variance=float(own * units / (units - 1) / total[BASE] / mean**2),
            requests_per_unit=float(total[BASE] / units),
            units_per_day=units / days,
            covariate_r2=float(min(both**2 / (own * spread), 1.0)) if own > 0 and spread > 0 else 0.0,
            paired_variance=paired_variance,
            positive_share=min(int(moments.positive.sum()) / units, 1.0),
        )

    @property
    def requests_per_day(self) -> float:
        """Of all units together."""
        return self.requests_per_unit * self.units_per_day


class Planned(BaseModel):
    """One KPI in one step, as if the rollout started there: how much until the decision, in half and in 80 % of runs.

    None: not even far beyond the longest duration. `undecided`: the chance that the decision has not come by then.
    `floor_units`: what burn-in and the step's own minimum demand of units in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kpi: str
    step: int
    stage: Stage
    decision: Decision
    effect: float
    floor_units: float
    units_p50: float | None
    units_p80: float | None
    requests_p50: float | None
    requests_p80: float | None
    days_p50: float | None
    days_p80: float | None
    undecided: float


@dataclass(frozen=True)
class Traffic:
    """Where requests go in a step: to both arms (`paired`), or a `share` to the canary; `judged`: share of all."""

    share: float
    paired: bool
    judged: float

    @classmethod
    def of(cls, step: Step) -> Traffic | None:
        """None for a step that has no traffic of its own."""
        if step.shadow is not None:
            return cls(0.5, True, step.shadow) if step.shadow else None
        return None if step.weight is None else cls(step.weight / 100, False, 1.0)

    def variance(self, test: KpiTest, baseline: Baseline, null: float) -> float:
        """Of the contrast against `null` times the stable mean, after one request."""
        if test.kind == "calibration":
            return baseline.variance / (1.0 if self.paired else self.share)
        if self.paired:
            if baseline.paired_variance is None:
                return baseline.variance * (1 + null**2)
            return baseline.paired_variance + (1 - null) ** 2 * baseline.variance
        left = baseline.variance * (1 - (baseline.covariate_r2 if test.adjust else 0.0))
        return left * (1 / self.share + null**2 / (1 - self.share))

    def floor_units(self, test: KpiTest, baseline: Baseline, step: Step) -> float:
        """Units until both arms have had their burn-in."""
        smaller = 1.0 if self.paired else min(self.share, 1 - self.share)
        needed = {
            "count": 0.0,
            "calibration": test.burn_in_units / (1.0 if self.paired else self.share),
            "ratio": max(float(test.burn_in_units), test.min_positive / baseline.positive_share) / smaller,
        }
        return max(needed[test.kind], float(step.min_units))


def plan(
    tests: Sequence[KpiTest],
    policy: Rollout,
    baselines: Mapping[str, Baseline],
    effects: Mapping[str, float],
    rng: Generator,
) -> tuple[Planned, ...]:
    """Rows for every step with traffic, every test with a baseline there, and each decision its effect can lead to.

    `effects`: the true change of each KPI, relative to its stable mean (0 when not given).
    """
    rows: list[Planned] = []
    for number, step in enumerate(policy.steps):
        traffic = Traffic.of(step)
        stage = Stage.SHADOW if step.shadow is not None else Stage.WEIGHTS
        for test in tests:
            if traffic is None or stage not in test.stages or test.kpi not in baselines:
                continue
            case = _Case(test, baselines[test.kpi], traffic, stage, effects.get(test.kpi, 0.0))
            floor, longest = traffic.floor_units(test, case.baseline, step), policy.max_duration.total_seconds() / 86400
            rows += [case.row(number, decision, floor, longest, rng) for decision in case.decisions()]
    return tuple(rows)


def requests_needed(
    test: KpiTest, baseline: Baseline, step: Step, rng: Generator, *, effect: float = 0.0, days: float = 60.0
) -> Planned:
    """Until a goal with this true effect is shown not to be inferior in one step. DataError when it never can be."""
    traffic = Traffic.of(step)
    stage = Stage.SHADOW if step.shadow is not None else Stage.WEIGHTS
    if traffic is None or test.margin is None or test.kind == "count":
        raise DataError(f"KPI {test.kpi} is not tested for non-inferiority in this step")
    case = _Case(test, baseline, traffic, stage, effect)
    return case.row(0, "non_inferior", traffic.floor_units(test, baseline, step), days, rng)


@dataclass(frozen=True)
class _Case:
    """One KPI in one step under one true effect."""

    test: KpiTest
    baseline: Baseline
    traffic: Traffic
    stage: Stage
    effect: float

    def decisions(self) -> list[Decision]:
        """Those on whose side of the null the effect lies."""
        found: list[Decision] = []
        if self.test.margin is not None and self.test.kind != "count" and self._distance(self.test.margin_rule()) > 0:
            found.append("non_inferior")
        if self.stage in self.test.harm_alpha and self._distance(self.test.harm_rule(self.stage)) > 0:
            found.append("harm")
        return found

    def row(self, step: int, decision: Decision, floor: float, days: float, rng: Generator) -> Planned:
        """Simulates to far beyond `days`."""
        daily = self.baseline.requests_per_day * self.traffic.judged
        start = max(floor, 2.0)  # at first almost every request is a new unit's
        grid = np.geomspace(start, max(daily * days * _BEYOND, 2 * start), _LOOKS)
        crossed = self._crossed(decision)(grid, rng)
        half, most = (_quantile(crossed, q) for q in (0.5, 0.8))
        per_unit = self.baseline.requests_per_unit
        return Planned(
            kpi=self.test.kpi,
            step=step,
            stage=self.stage,
            decision=decision,
            effect=self.effect,
            floor_units=floor,
            units_p50=None if half is None else max(half / per_unit, floor),
            units_p80=None if most is None else max(most / per_unit, floor),
            requests_p50=half,
            requests_p80=most,
            days_p50=_over(half, daily),
            days_p80=_over(most, daily),
            undecided=float((crossed > daily * days).mean()),
        )

    def _crossed(self, decision: Decision) -> Callable[[Floats, Generator], Floats]:
        rule = self.test.margin_rule() if decision == "non_inferior" else self.test.harm_rule(self.stage)
        if self.test.kind == "count":
            share, rate = self.traffic.share, self.baseline.mean
            return lambda grid, rng: count_crossings(rate, 1 + self.effect, share, rule, grid, rng)
        variance = self.traffic.variance(self.test, self.baseline, rule.null)
        return lambda grid, rng: crossings(self._distance(rule), variance, rule, grid, rng)

    def _distance(self, rule: Rule) -> float:
        """From the null into the direction of the decision. A calibration's stable mean is one."""
        mean = self.baseline.mean if self.test.kind == "calibration" else 1.0
        return rule.side * (mean * (1 + self.effect) - rule.null)


def crossings(distance: float, variance: float, rule: Rule, grid: Floats, rng: Generator, paths: int = PATHS) -> Floats:
    """(paths,): the first point of `grid` (requests, rising) where the estimate passes its half width; inf for none.

    `variance`: of the contrast after one request; `distance`: the mean of the contrast.
    """
    steps = np.diff(grid, prepend=0.0)
    walk = np.cumsum(rng.standard_normal((paths, len(grid))) * np.sqrt(steps * variance), axis=1) / grid
    width = half_width_one_sided(variance / grid, rule.tau, rule.alpha)
    return _first(distance + walk > width, grid)


def count_crossings(
    rate: float, ratio: float, share: float, rule: Rule, grid: Floats, rng: Generator, paths: int = 200
) -> Floats:
    """The same of the count test: incidents a request on the stable arm, their true ratio, the canary's share."""
    steps = np.diff(grid, prepend=0.0)
    canary = rng.poisson(steps * share * rate * ratio, (paths, len(grid))).astype(np.float64)
    stable = rng.poisson(steps * (1 - share) * rate, (paths, len(grid))).astype(np.float64)
    log_e = mixture_log_e(canary, stable, np.full((paths, len(grid)), share), rule.null)
    return _first(log_e >= -np.log(rule.alpha), grid)


def _first(crossed: NDArray[np.bool_], grid: Floats) -> Floats:
    return np.asarray(np.where(crossed.any(axis=1), grid[crossed.argmax(axis=1)], np.inf))


def _quantile(crossed: Floats, share: float) -> float | None:
    """The next point up, for there is no mean of a finite time and none."""
    value = float(np.quantile(crossed, share, method="higher"))
    return value if np.isfinite(value) else None


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _over_cells(moments: Moments) -> Floats:
    """(3, 3): cross moments of the units' vectors summed over cells."""
    cells = len(moments.cells)
    return np.asarray(moments.cross.reshape(cells, WIDTH, cells, WIDTH).sum(axis=(0, 2)))
