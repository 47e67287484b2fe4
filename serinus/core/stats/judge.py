"""Turns looks into readings: which tests a rollout makes, at which levels, and what each look says.

Invariant: a reading is a function of the looks up to it, so a judge may be thrown away and rebuilt from the first look.
A false rollback has at most the policy's alpha over all stages, KPIs and looks; a false advance at most alpha as well,
since every goal must pass (an intersection needs no split).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from serinus.core.card.operation import Rollout
from serinus.core.errors import DataError
from serinus.core.kpi import Estimator, Kpi
from serinus.core.stats.counts import CountState
from serinus.core.stats.estimate import Rule, effect_of, predicted_over_observed
from serinus.core.stats.moments import BASE, Moments
from serinus.core.stats.reading import Look, Reading, Role
from serinus.core.words import Arm, Stage


class KpiTest(BaseModel):
    """All that the test of one KPI needs, fixed before the first look.

    `harm_alpha`: the level of the harm test by stage; a stage that is missing has none. `boundary` and `margin` are the
    harm margin and the non-inferiority margin; a test without a margin never says `non_inferior`. `burn_in_units` an
    arm, and `min_positive` units with a positive value, come before any decision.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kpi: str
    kind: Estimator
    role: Role
    direction: Literal["higher", "lower"]
    stages: tuple[Stage, ...]
    harm_alpha: dict[Stage, float] = Field(default_factory=dict)
    alpha: float
    boundary: float
    margin: float | None = None
    tau: float
    adjust: bool = False
    burn_in_units: int = 0
    min_positive: int = 0

    @property
    def worse(self) -> int:
        """1 where a larger value is worse, -1 where a smaller one is."""
        return 1 if self.direction == "lower" else -1

    def harm_rule(self, stage: Stage) -> Rule:
        """That the effect lies beyond the boundary."""
        return Rule(1 + self.worse * self.boundary, self.worse, self.harm_alpha.get(stage, self.alpha), self.tau)

    def margin_rule(self) -> Rule:
        """That the effect does not reach the margin; without one, that it is better than nothing."""
        return Rule(1 + self.worse * (self.margin or 0.0), -self.worse, self.alpha, self.tau)


def tests_of(kpis: Sequence[Kpi], policy: Rollout, *, independent_outcomes: bool) -> tuple[KpiTest, ...]:
    """The tests of a rollout, one a KPI, in the card's order.

    Alpha is shared equally by the stages that test for harm, and within a stage by its harm tests.
    """
    stages = {kpi.name: _stages(kpi, policy, independent_outcomes=independent_outcomes) for kpi in kpis}
    harmful = [kpi.name for kpi in kpis if kpi.role != "report"]
    counts = {stage: sum(stage in stages[name] for name in harmful) for stage in Stage}
    tested = [stage for stage in Stage if counts[stage]]
    levels = {stage: policy.alpha / len(tested) / counts[stage] for stage in tested}
    return tuple(_test(kpi, stages[kpi.name], levels, policy.alpha) for kpi in kpis)


def _stages(kpi: Kpi, policy: Rollout, *, independent_outcomes: bool) -> tuple[Stage, ...]:
    """Where a KPI is judged, of the stages that the policy has."""
    shadow = any(step.shadow is not None for step in policy.steps)
    weights = any(step.weight is not None for step in policy.steps)
    in_shadow = shadow and kpi.judged_in_shadow(independent_outcomes=independent_outcomes)
    return (*((Stage.SHADOW,) if in_shadow else ()), *((Stage.WEIGHTS,) if weights else ()))


def _test(kpi: Kpi, stages: tuple[Stage, ...], levels: dict[Stage, float], alpha: float) -> KpiTest:
    return KpiTest(
        kpi=kpi.name,
        kind=kpi.formula.estimator,
        role=kpi.role,
        direction=kpi.direction,
        stages=stages,
        harm_alpha={} if kpi.role == "report" else {stage: levels[stage] for stage in stages},
        alpha=alpha,
        boundary=kpi.harm_margin,
        margin=kpi.non_inferiority_margin,
        tau=kpi.tau,
        adjust=kpi.covariate is not None,
        burn_in_units=kpi.burn_in_units,
        min_positive=kpi.formula.guards.min_positive,
    )


class Judge:
    """Folds the looks of a rollout, in order, and reads each."""

    def __init__(self, tests: Sequence[KpiTest]) -> None:
        self._tests = {test.kpi: test for test in tests}
        self._moments: dict[tuple[str, Stage], Moments] = {}
        self._counts: dict[tuple[str, Stage], CountState] = {}
        self._last = 0

    def read(self, look: Look) -> Reading:
        """The reading of the next look. DataError when it is of an unknown KPI, out of order or of the wrong kind."""
        test = self._tests.get(look.kpi)
        if test is None:
            raise DataError(f"look {look.sequence} is of KPI {look.kpi}, which this rollout does not judge")
        if look.sequence <= self._last:
            raise DataError(f"look {look.sequence} came after look {self._last}", cause="looks are read in their order")
        reading = self._read_counts(test, look) if test.kind == "count" else self._read_moments(test, look)
        self._last = look.sequence
        return reading

    def _read_counts(self, test: KpiTest, look: Look) -> Reading:
        if isinstance(look.increment, Moments):
            raise DataError(f"look {look.sequence} of {look.kpi} has moments where incidents and requests are due")
        key = (look.kpi, look.stage)
        state = self._counts.get(key, CountState.start(1 + test.boundary)).add(look.increment)
        self._counts[key] = state
        return read_counts(test, look, state)

    def _read_moments(self, test: KpiTest, look: Look) -> Reading:
        if not isinstance(look.increment, Moments):
            raise DataError(f"look {look.sequence} of {look.kpi} has counts where moments are due")
        key = (look.kpi, look.stage)
        seen = self._moments.get(key)
        moments = look.increment if seen is None else seen + look.increment
        self._moments[key] = moments
        return read_moments(test, look, moments)


@dataclass(frozen=True)
class _Judged:
    """What a look says, on the scale of ratios; NaN where nothing can be said."""

    units: dict[Arm, int]
    requests: dict[Arm, int]
    ratio: float
    low: float
    high: float
    enough: bool
    harmed: bool
    within: bool


def read_moments(test: KpiTest, look: Look, moments: Moments) -> Reading:
    """The reading of all evidence of a KPI and stage up to a look; a calibration's base is not requests."""
    effect = predicted_over_observed(moments) if test.kind == "calibration" else effect_of(moments, adjust=test.adjust)
    harm_bound, harmed = effect.bound(test.harm_rule(look.stage))
    margin_bound, within = effect.bound(test.margin_rule())
    low, high = (harm_bound, margin_bound) if test.worse > 0 else (margin_bound, harm_bound)
    units = {arm: int(_of_arm(moments, moments.units, arm).sum()) for arm in Arm}
    requests = {arm: round(float(_of_arm(moments, moments.sums[:, BASE], arm).sum())) for arm in Arm}
    judged = _Judged(
        units,
        {} if test.kind == "calibration" else requests,
        float(effect.ratio),
        float(low),
        float(high),
        _burned_in(test, moments),
        bool(harmed),
        bool(within),
    )
    return _reading(test, look, judged)


def read_counts(test: KpiTest, look: Look, state: CountState) -> Reading:
    """The same of a count test. It is exact and needs no burn-in: a request on both arms is enough; units are unknown.

    Its bounds are ratios of a grid, refuted themselves: a low one at the boundary says harm.
    """
    low, high = state.low(test.harm_rule(look.stage).alpha), state.high(test.alpha)
    judged = _Judged(
        {},
        dict(state.requests),
        _nan(state.estimate),
        _nan(low),
        _nan(high),
        all(state.requests[arm] for arm in Arm),
        low is not None and low >= state.grid.null,
        high is not None and high <= 1 + (test.margin or 0.0),
    )
    return _reading(test, look, judged)


def _reading(test: KpiTest, look: Look, judged: _Judged) -> Reading:
    enough = judged.enough and look.stage in test.stages
    return Reading(
        sequence=look.sequence,
        kpi=look.kpi,
        role=test.role,
        direction=test.direction,
        look=look.number,
        stage=look.stage,
        step=look.step,
        at=look.at,
        step_units=look.step_units,
        step_from=look.step_from,
        units=judged.units,
        requests=judged.requests,
        estimate=_relative(judged.ratio),
        low=_relative(judged.low),
        high=_relative(judged.high),
        boundary=test.worse * test.boundary + 0.0,  # never a negative zero
        margin=None if test.margin is None else test.worse * test.margin,
        enough=enough,
        harm=enough and look.stage in test.harm_alpha and judged.harmed,
        non_inferior=enough and test.margin is not None and judged.within,
    )


def _burned_in(test: KpiTest, moments: Moments) -> bool:
    """Units of the step that has most: one that returned in another step must not count twice."""
    canary, stable = (_of_arm(moments, moments.units, arm) for arm in (Arm.CANARY, Arm.STABLE))
    if test.kind == "calibration":
        return bool(canary.max(initial=0) >= test.burn_in_units)
    if min(canary.max(initial=0), stable.max(initial=0)) < test.burn_in_units:
        return False
    positive = [int(_of_arm(moments, moments.positive, arm).max()) for arm in (Arm.CANARY, Arm.STABLE)]
    return positive_units(int(canary.max()), int(stable.max()), *positive) >= test.min_positive


def positive_units(canary: int, stable: int, seen: int, of_stable: int) -> float:
    """Units with a positive value on the canary: those `seen`, or as many as the stable arm's share lets expect.

    So a canary that yields nothing at all does not wait for ever to be judged, nor one that yields too much.
    """
    return max(float(seen), of_stable * min(canary / stable, 1.0))


def _of_arm(moments: Moments, by_cell: NDArray[Any], arm: Arm) -> NDArray[Any]:
    return np.asarray(by_cell[[cell.arm is arm for cell in moments.cells]])


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _relative(ratio: float) -> float | None:
    return ratio - 1 if math.isfinite(ratio) else None
