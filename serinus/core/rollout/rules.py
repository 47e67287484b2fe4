"""The rules of D8 as questions about a state: what must be shown, what is still waited for, what has gone wrong.

Invariant: an answer depends on spec and state alone, so it is the same after a crash, and however looks were grouped.
"""

from __future__ import annotations

from datetime import timedelta

from serinus.core.card.operation import Step
from serinus.core.kpi import Kpi
from serinus.core.rollout.route import Route, RouteMode
from serinus.core.rollout.spec import RolloutSpec, judged_in_shadow, kind_of
from serinus.core.rollout.state import Crossing, RolloutState, StepRecord
from serinus.core.words import Stage, StepKind


def stage_at(spec: RolloutSpec, step: int) -> Stage:
    """Shadow before the first weight, weights from there on: bakes and approvals belong to the step before them."""
    begun = any(one.weight is not None for one in spec.policy.steps[: step + 1])
    return Stage.WEIGHTS if begun else Stage.SHADOW


def route_at(spec: RolloutSpec, step: int, number: int) -> Route:
    """The route of a step: that of the last shadow or weight step up to it; without one, all to the stable arm."""
    route = Route(
        service=spec.service,
        rollout=spec.name,
        number=number,
        stable=spec.stable.name,
        canary=spec.candidate.name,
        seed=spec.seed,
        hold_back=spec.policy.hold_back,
    )
    for one in reversed(spec.policy.steps[: step + 1]):
        if one.weight is not None:
            return route.model_copy(update={"weight": one.weight})
        if one.shadow is not None:
            return route.model_copy(update={"mode": RouteMode.SHADOW, "share": one.shadow})
    return route


def exposed(spec: RolloutSpec, step: int) -> bool:
    """Whether the candidate has been asked anything up to this step."""
    kinds = {kind_of(one) for one in spec.policy.steps[: step + 1]}
    return bool(kinds & {StepKind.SHADOW, StepKind.WEIGHT})


def to_be_shown(spec: RolloutSpec, stage: Stage) -> tuple[Kpi, ...]:
    """KPIs that a stage must show not to be inferior: goals, and guardrails with a margin, where they are judged."""
    return tuple(
        kpi
        for kpi in spec.kpis
        if (kpi.role == "goal" or (kpi.role == "guardrail" and kpi.non_inferiority_margin is not None))
        and (stage is Stage.WEIGHTS or judged_in_shadow(spec, kpi))
    )


def deadline(spec: RolloutSpec, state: RolloutState) -> float:
    """Epoch s after which nothing decides any more; infinite before the start."""
    if state.started_at is None:
        return float("inf")
    return state.started_at + spec.policy.max_duration.total_seconds()


def first_harm(state: RolloutState) -> Crossing | None:
    """The first crossing of a harm boundary, or None. Looks are in order, ties broken when they were numbered."""
    return next((one for one in state.crossed if one.boundary == "harm"), None)


def first_shown(spec: RolloutSpec, state: RolloutState, stage: Stage) -> str:
    """The KPI that was shown first of those that a stage must show, or nothing."""
    wanted = {kpi.name for kpi in to_be_shown(spec, stage)}
    found = (one.kpi for one in state.crossed if one.boundary == "non_inferior" and one.stage is stage)
    return next((kpi for kpi in found if kpi in wanted), "")


def waits_for(spec: RolloutSpec, state: RolloutState) -> str:
    """What keeps a rollout in its step, or nothing: then the step may be left. Without figures, so that it repeats.

    Before the candidate was asked anything, an approval is all that can be waited for. A look of a step shows that its
    route is in force; where none is asked for, the route itself is.
    """
    step = spec.policy.steps[state.step]
    if not ready(state):
        return "waits until the candidate is ready again"
    if step.approval and state.step not in state.intents.approved:
        return "waits for approval"
    if not exposed(spec, state.step):
        return "" if state.steps[-1].begun else "waits until its route is in force"
    stage = stage_at(spec, state.step)
    shown = to_be_shown(spec, stage)
    missing = [kpi.name for kpi in shown if not state.has_crossed(kpi.name, stage, "non_inferior")]
    if missing:
        return f"waits until shown not to be inferior: {', '.join(missing)}"
    return _waits_for_more(step, state.steps[-1], {kpi.name for kpi in shown})


def _waits_for_more(step: Step, record: StepRecord, names: set[str]) -> str:
    """A step is left by a look of its own, of a KPI that must be shown (any, where none must).

    That KPI has closed the minimum of units in the step, and up to an exposure as long after the step's first as the
    minimum duration says. An approval needs no look unless it asks for units or time.
    """
    units = max(step.min_units, 0 if step.approval else 1)
    least = max(step.min_duration or timedelta(0), step.bake or timedelta(0)).total_seconds()
    if not units and not least:
        return ""
    deciding = [one for name, one in record.closed.items() if name in names or not names]
    deciding = [one for one in deciding if one.units >= units]
    if not deciding:
        return "waits for units in this step"
    if max(one.last_at for one in deciding) - record.first_at < least:
        return "waits for time in this step"
    return ""


def ready(state: RolloutState) -> bool:
    """Whether the candidate was ready when last heard of."""
    return not any(one.name == "CandidateReady" and not one.holds for one in state.conditions)


def held(state: RolloutState) -> str:
    """Why no look decides now, or nothing."""
    if state.frozen:
        return "held: units do not reach the arms in the shares of the route, so no comparison can be trusted"
    return "held: paused" if state.intents.paused else ""
