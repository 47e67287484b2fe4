"""A rollout as it is told afterwards: verdict, arms, steps against plan, intervals over units, traffic, decisions.

Invariant: every figure is copied from what was asked, what was remembered and what was judged; nothing is judged anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from serinus.core.card.operation import Step
from serinus.core.rollout.spec import Revision, RolloutSpec, kind_of
from serinus.core.rollout.state import Condition, Entry, RolloutState
from serinus.core.stats.reading import Reading, Role
from serinus.core.words import Phase, Stage, StepKind, distinct

DecidedIn = Literal["shadow", "weight"]
_ROLES: tuple[Role, ...] = ("goal", "guardrail", "report")
_SUMMARY = (
    "name", "candidate_version", "revision", "outcome", "decided_by", "decided_in", "steps", "kpis", "planned_units",
    "used_units", "replayed",
)  # fmt: skip
# So often a visit may come again before a reader is warned.
MOST_PASSES = 3
_STEP_SUMMARY = {"kind", "weight", "units", "requests", "failed", "seconds"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Replayed(_Part):
    """What a rollout was judged on in a replay: distinct visits, and how often they were played.

    A unit of another pass is the same visit once more: it sharpens what is known of these visits, not of others.
    """

    visits: int
    passes: int

    def __str__(self) -> str:
        played = "once" if self.passes == 1 else f"in {self.passes} passes"
        return f"{self.visits:,} distinct visits, played {played}"

    @property
    def flag(self) -> str:
        """A warning, where it is due."""
        if self.passes <= MOST_PASSES:
            return ""
        return f"the same visits came up to {self.passes} times: the units are not so many customers"


@dataclass(frozen=True)
class Counted:
    """What was counted outside of a rollout: failed requests by rollout and step, units planned by rollout (and step).

    `failed` is None when nobody counted; a step that is missing in it had no failure. `replayed`: by rollout.
    """

    failed: Mapping[tuple[str, int], int] | None = None
    planned: Mapping[str, int] = field(default_factory=dict)
    planned_by_step: Mapping[tuple[str, int], int] = field(default_factory=dict)
    replayed: Mapping[str, Replayed] = field(default_factory=dict)


class StepFigures(_Part):
    """A step that was entered. `units` and `requests` closed in it; `failed` answers, None where nobody counted them.

    `weight` in per cent, `share` (0 to 1) of requests that were mirrored; `ended`: why it was left, from the log.
    """

    kind: StepKind
    weight: int
    share: float
    units: int
    requests: int
    failed: int | None
    seconds: float | None
    planned_units: int | None
    min_units: int
    ended: str = ""


Said = Literal["", "harmed", "not inferior", "not enough data"]


class KpiFigures(_Part):
    """The last reading of a KPI in the stage that decided, and what it was held against.

    `boundary`: the harm boundary when the rollout was rolled back, the margin when it was promoted; of any other end
    the margin of a goal and the harm boundary of a guardrail. None: it was held against nothing of that kind. `harm`
    and `margin` are both, whatever the end. `said` is what its test had said by then. `units`: distinct ones that it
    closed in that stage, 0 for a test that counts requests.
    """

    name: str
    role: Role
    estimate: float | None
    low: float | None
    high: float | None
    boundary: float | None
    direction: Literal["higher", "lower"]
    harm: float | None
    margin: float | None
    said: Said
    units: int = 0
    requests: int = 0


class Point(_Part):
    """A look: units closed so far over all steps, the step, and the interval (see `Reading`) at that time (epoch s)."""

    stage: Stage
    step: int
    look: int
    units: int
    at: float
    estimate: float | None
    low: float | None
    high: float | None
    enough: bool


class KpiPath(_Part):
    """All looks of a KPI that the rollout took in, in order. `harm` is None for a KPI that is only reported."""

    kpi: str
    role: Role
    direction: Literal["higher", "lower"]
    harm: float | None
    margin: float | None
    points: tuple[Point, ...]


class TrafficPoint(_Part):
    """From `at` (epoch s) on the canary answered `weight` per cent of the units, and saw `share` of all mirrored."""

    at: float
    weight: int
    share: float


class RolloutRecord(_Part):
    """One rollout. `revision` is the candidate's; `outcome` the end state, or the phase of one that still lives.

    `recorded_outcomes`: they come from a log, so they do not depend on what was shown. `ahead`: steps that were not
    entered. `replayed`: what a replay played through it, None for real callers.
    """

    name: str
    candidate_version: int
    revision: str
    outcome: Phase
    decided_by: str
    decided_in: DecidedIn | None
    steps: tuple[StepFigures, ...]
    kpis: tuple[KpiFigures, ...]
    planned_units: int | None
    used_units: int
    reason: str
    stable: Revision
    candidate: Revision
    alpha: float
    hold_back: int
    recorded_outcomes: bool
    started_at: float | None
    ended_at: float | None
    ahead: tuple[str, ...]
    paths: tuple[KpiPath, ...]
    traffic: tuple[TrafficPoint, ...]
    log: tuple[Entry, ...]
    unjudged: dict[str, int]
    conditions: tuple[Condition, ...]
    replayed: Replayed | None = None

    def summary(self) -> dict[str, Any]:
        """The figures that machines compare, as JSON values."""
        kpis = {"__all__": {"name", "role", "estimate", "low", "high", "boundary"}}
        include: dict[str, Any] = dict.fromkeys(_SUMMARY, True) | {"steps": {"__all__": _STEP_SUMMARY}, "kpis": kpis}
        return self.model_dump(mode="json", include=include)


def record_of(
    spec: RolloutSpec, state: RolloutState, readings: Sequence[Reading], counted: Counted | None = None
) -> RolloutRecord:
    """The record of a rollout; `readings`: all judged looks, of which those count that the rollout took in."""
    counted = counted or Counted()
    return RolloutRecord(
        name=spec.name,
        candidate_version=spec.candidate.model.version,
        revision=spec.candidate.name,
        outcome=state.phase,
        decided_by=state.decided_by,
        decided_in=None if state.decided_in is None else ("shadow" if state.decided_in is Stage.SHADOW else "weight"),
        steps=tuple(_step(spec, state, number, counted) for number in range(len(state.steps))),
        kpis=figures_of(spec, state),
        planned_units=counted.planned.get(spec.name),
        used_units=sum(state.closed(number, goals_of(spec)).units for number in range(len(state.steps))),
        replayed=counted.replayed.get(spec.name),
        reason=state.reason,
        stable=spec.stable,
        candidate=spec.candidate,
        alpha=spec.policy.alpha,
        hold_back=spec.policy.hold_back,
        recorded_outcomes=spec.independent_outcomes,
        started_at=state.started_at,
        ended_at=state.ended_at,
        ahead=tuple(_said(one) for one in spec.policy.steps[len(state.steps) :]),
        paths=_paths(spec, [one for one in readings if one.sequence <= state.looks]),
        traffic=_traffic(state),
        log=state.history,
        unjudged=state.unjudged,
        conditions=state.conditions,
    )


def _step(spec: RolloutSpec, state: RolloutState, number: int, counted: Counted) -> StepFigures:
    one, key, closed = state.steps[number], (spec.name, number), state.closed(number, goals_of(spec))
    ends = one.left_at if one.left_at is not None else state.ended_at
    return StepFigures(
        kind=one.kind,
        weight=one.weight,
        share=one.share,
        units=closed.units,
        requests=closed.requests,
        failed=None if counted.failed is None else counted.failed.get(key, 0),
        seconds=None if ends is None else ends - one.entered_at,
        planned_units=counted.planned_by_step.get(key),
        min_units=spec.policy.steps[number].min_units,
        ended=next((e.reason for e in state.log if e.step == number and e.event in ("step", "end")), ""),
    )


def _said(step: Step) -> str:
    value = {StepKind.SHADOW: f"{step.shadow or 0:.0%}", StepKind.WEIGHT: f"{step.weight} %", StepKind.BAKE: step.bake}
    return f"{kind_of(step)} {value.get(kind_of(step), '')}".strip()


def goals_of(spec: RolloutSpec) -> set[str]:
    """Names of the KPIs that a promotion needs."""
    return {kpi.name for kpi in spec.kpis if kpi.role == "goal"}


def stage_shown(state: RolloutState) -> Stage | None:
    """The stage that decided; of a rollout under way, the newest that has readings."""
    return state.decided_in or next((one for one in reversed(Stage) if state.readings.get(one)), None)


def figures_of(spec: RolloutSpec, state: RolloutState) -> tuple[KpiFigures, ...]:
    """Of the stage that is shown, in the order of roles, then of the card."""
    stage = stage_shown(state)
    if stage is None:
        return ()
    found = state.readings.get(stage, {})
    shown = [kpi for role in _ROLES for kpi in spec.kpis if kpi.role == role and kpi.name in found]
    return tuple(_kpi(state, stage, found[kpi.name], least=kpi.formula.least_effect) for kpi in shown)


def _kpi(state: RolloutState, stage: Stage, reading: Reading, *, least: float) -> KpiFigures:
    harm = None if reading.role == "report" else reading.boundary
    margin = None if reading.role == "report" else reading.margin
    other = margin if reading.role == "goal" else harm
    return KpiFigures(
        name=reading.kpi,
        role=reading.role,
        estimate=reading.estimate,
        low=None if reading.low is None else max(reading.low, least),
        high=reading.high,
        boundary={Phase.ROLLED_BACK: harm, Phase.PROMOTED: margin}.get(state.phase, other),
        direction=reading.direction,
        harm=harm,
        margin=margin,
        said=_verdict(state, stage, reading),
        units=distinct(reading.units, stage),
        requests=distinct(reading.requests, stage),
    )


def _verdict(state: RolloutState, stage: Stage, reading: Reading) -> Said:
    if state.has_crossed(reading.kpi, stage, "harm"):
        return "harmed"
    if state.has_crossed(reading.kpi, stage, "non_inferior"):
        return "not inferior"
    return "" if reading.enough else "not enough data"


def _paths(spec: RolloutSpec, readings: Sequence[Reading]) -> tuple[KpiPath, ...]:
    names = [kpi.name for role in _ROLES for kpi in spec.kpis if kpi.role == role]
    found = [(name, [one for one in readings if one.kpi == name]) for name in names]
    return tuple(_path(name, mine) for name, mine in found if mine)


def _path(name: str, readings: Sequence[Reading]) -> KpiPath:
    """Units are summed over the steps: one that returns in another step counts there again."""
    by_step: dict[int, int] = {}
    points = []
    for one in readings:
        by_step[one.step] = max(one.step_units, by_step.get(one.step, 0))
        points.append(
            Point(
                stage=one.stage,
                step=one.step,
                look=one.look,
                units=sum(by_step.values()),
                at=one.at,
                estimate=one.estimate,
                low=one.low,
                high=one.high,
                enough=one.enough,
            )
        )
    last = readings[-1]
    harm = None if last.role == "report" else last.boundary
    return KpiPath(
        kpi=name, role=last.role, direction=last.direction, harm=harm, margin=last.margin, points=tuple(points)
    )


def _traffic(state: RolloutState) -> tuple[TrafficPoint, ...]:
    """From the start of the candidate on; the last one is the route that the end left."""
    found = [] if state.started_at is None else [TrafficPoint(at=state.started_at, weight=0, share=0.0)]
    found += [TrafficPoint(at=one.entered_at, weight=one.weight, share=one.share) for one in state.steps]
    if state.ended_at is not None and state.started_at is not None:
        weight = state.route.weight if state.route is not None else 0
        found.append(TrafficPoint(at=state.ended_at, weight=weight, share=0.0))
    return tuple(found)
