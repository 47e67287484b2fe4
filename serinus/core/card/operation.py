"""Step 4, operation: gates before a model may serve, the rollout that judges it, and what watches it afterwards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serinus.core.fields import CardPart, Duration, Name, Share
from serinus.core.verdict import Severity

GateCheck = Literal["baselines", "champion", "calibration", "slices", "latency", "golden_rows"]


class GateRule(CardPart):
    """One quality gate. Which of the limits a check reads: docs/reference/gates.md."""

    name: Name
    check: GateCheck
    severity: Severity = Severity.CRITICAL
    metric: Name | None = None
    margin: Share = 0.0
    low: float | None = None
    high: float | None = None
    by: tuple[str, ...] = ()
    max_ms: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _limits(self) -> GateRule:
        needs = {
            "baselines": ("metric",),
            "champion": ("metric",),
            "calibration": ("low", "high"),
            "slices": ("metric", "by", "low"),
            "latency": ("max_ms",),
            "golden_rows": (),
        }
        missing = [field for field in needs[self.check] if getattr(self, field) in (None, ())]
        if missing:
            raise ValueError(f"check {self.check} needs {', '.join(missing)}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.check == "champion" and "champion" not in self.name:
            raise ValueError("the gate against the champion must have champion in its name")
        return self


class Step(CardPart):
    """One step of a rollout: exactly one of shadow, weight, bake or approval."""

    shadow: Share | None = None
    weight: Annotated[int, Field(ge=1, le=99)] | None = None
    bake: Duration | None = None
    approval: Literal[True] | None = None
    min_units: Annotated[int, Field(ge=0)] = 0
    min_duration: Duration | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        kinds = [kind for kind in ("shadow", "weight", "bake", "approval") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("a step is exactly one of shadow, weight, bake, approval")
        return self


class Rollout(CardPart):
    """How a new revision takes traffic. `alpha` is the chance of a false rollback over the whole rollout.

    `hold_back` per cent stay with the old revision after a promotion, for `hold_back_for` or until the next rollout.
    One of the last `rollback_window` revisions that served gets all traffic at once when it is wanted again.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    hold_back: Annotated[int, Field(ge=0, le=5)] = 1
    hold_back_for: Duration | None = None
    rollback_window: Annotated[int, Field(ge=0, le=20)] = 0
    max_duration: Duration
    on_inconclusive: Literal["hold", "promote", "rollback"] = "hold"
    on_no_data: Literal["hold", "promote", "rollback"] = "hold"
    on_supersede: Literal["queue", "replace", "reject"] = "queue"

    @model_validator(mode="after")
    def _weights_rise(self) -> Rollout:
        weights = [step.weight for step in self.steps if step.weight is not None]
        if weights != sorted(set(weights)):
            raise ValueError(f"weights must rise from step to step, got {weights}")
        return self

    @model_validator(mode="after")
    def _can_be_followed(self) -> Rollout:
        """A policy that could not be followed to its end is refused with the card, not when a rollout begins."""
        weights = [step.weight for step in self.steps if step.weight is not None]
        if not weights:
            raise ValueError("a rollout needs a step with a weight: nothing else shows that users are not worse off")
        if max(weights) > 100 - self.hold_back:
            raise ValueError(f"weight {max(weights)} leaves no room for the hold-back of {self.hold_back} %")
        first = next(place for place, step in enumerate(self.steps) if step.weight is not None)
        if any(step.shadow is not None for step in self.steps[first:]):
            raise ValueError("shadow comes before the first weight: later it could no longer spare a user")
        if self.steps[0].bake is not None:
            raise ValueError("a bake keeps the traffic of the step before it, so it cannot be the first step")
        return self


# Enough for a distribution by the day at a thousand requests, and a tenth of what logging all of them would take.
INPUTS_SHARE = 0.1


class Monitoring(CardPart):
    """When live data or quality counts as changed. Effect sizes, not p-values alone, raise an alarm.

    `inputs_share`: of the requests, whose inputs are logged; 0 logs none.
    """

    window: Duration
    inputs_share: Share = INPUTS_SHARE
    drift_psi: Annotated[float, Field(gt=0)] = 0.2
    calibration: tuple[float, float] = (0.9, 1.1)
    normalized_entropy_rise: Share = 0.02
    windows_in_alarm: tuple[int, int] = (2, 3)

    @model_validator(mode="after")
    def _k_of_m(self) -> Monitoring:
        k, m = self.windows_in_alarm
        if not 1 <= k <= m:
            raise ValueError("windows_in_alarm is (k, m) with 1 <= k <= m")
        return self


class Retraining(CardPart):
    """When the pipeline runs again without a person."""

    schedule: str | None = None
    triggers: tuple[Literal["quality", "drift", "volume", "event"], ...] = ()
    cool_down: Duration
    max_age: Duration
    min_new_positives: Annotated[int, Field(ge=0)] = 0


class Operation(CardPart):
    """Gates and rollout; monitoring and retraining may be said, and nothing reads them yet but `inputs_share`."""

    gates: Annotated[tuple[GateRule, ...], Field(min_length=1)]
    rollout: Rollout
    monitoring: Monitoring | None = None
    retraining: Retraining | None = None

    @property
    def inputs_share(self) -> float:
        """Of the requests, whose inputs are logged; the usual one where nothing is said of monitoring."""
        return INPUTS_SHARE if self.monitoring is None else self.monitoring.inputs_share
