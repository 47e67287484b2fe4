"""How a rollout ends: the phase, where the traffic goes, and what is said about it.

Invariant: only a promotion leaves traffic with the candidate; every other end gives it all back to the stable arm. An
end that rests on a KPI names it.
"""

from __future__ import annotations

from dataclasses import dataclass

from serinus.core.rollout.entries import decided
from serinus.core.rollout.evidence import ArmCondition, Evidence, Readiness
from serinus.core.rollout.route import Route
from serinus.core.rollout.rules import deadline, first_shown, ready, route_at, stage_at
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import Crossing, RolloutState
from serinus.core.words import Phase, Stage, Verdict


@dataclass(frozen=True)
class Ending:
    """An end and why; `by` is the KPI that crossed first, in stage `within`, when one decided it.

    `full`: of a promotion, without a hold-back.
    """

    phase: Phase
    verdict: Verdict
    reason: str
    by: str = ""
    within: Stage | None = None
    full: bool = False


def ended(spec: RolloutSpec, state: RolloutState, ending: Ending, *, at: float, now: float) -> RolloutState:
    """The state with that end; `at` is the time of the look or of the tick that decided it (epoch s)."""
    here = stage_at(spec, state.step) if state.step >= 0 else None
    state = routed(left(state, now), _last_route(spec, state, ending)).changed(
        phase=ending.phase,
        ended_at=now,
        decided_by=ending.by,
        decided_in=ending.within or here,
        reason=ending.reason,
    )
    by = state.readings.get(ending.within, {}).get(ending.by) if ending.within else None
    return decided(state, at, "end", ending.verdict, by)


def left(state: RolloutState, now: float) -> RolloutState:
    """With the present step left."""
    if not state.steps:
        return state
    return state.changed(steps=(*state.steps[:-1], state.steps[-1].model_copy(update={"left_at": now})))


def routed(state: RolloutState, route: Route | None) -> RolloutState:
    """With that route, which is in force only where it was already."""
    if route == state.route:
        return state
    return state.changed(route=route, in_force_at=None, unsupported="")


def _last_route(spec: RolloutSpec, state: RolloutState, ending: Ending) -> Route | None:
    promoted = ending.phase is Phase.PROMOTED
    if state.route is None and not promoted:
        return None
    route = route_at(spec, len(spec.policy.steps) - 1, state.route.number + 1 if state.route else 1)
    if promoted:
        return route.model_copy(update={"weight": 100 - (0 if ending.full else spec.policy.hold_back)})
    return route.model_copy(update={"weight": 0, "canary": ""})


def harmed(harm: Crossing) -> Ending:
    """By the first harm boundary that was crossed."""
    reason = f"{harm.kpi} is harmed ({harm.stage})"
    return Ending(Phase.ROLLED_BACK, Verdict.ROLLBACK, reason, by=harm.kpi, within=harm.stage)


def promoted(spec: RolloutSpec, state: RolloutState) -> Ending:
    """After the last step."""
    by = first_shown(spec, state, Stage.WEIGHTS)
    reason = "every goal is shown not to be inferior, and nothing is harmed"
    return Ending(Phase.PROMOTED, Verdict.PROMOTE, reason, by=by, within=Stage.WEIGHTS)


def at_once(spec: RolloutSpec, state: RolloutState, evidence: Evidence) -> Ending | None:
    """Of a rollout that gets all traffic once its candidate is ready, because a person says so or it served lately."""
    if evidence.candidate.readiness is not Readiness.READY:
        return None
    if state.intents.promote_full:
        reason = f"promoted in full on request{state.intents.who('promote_full')}; not judged"
    elif spec.at_once and not state.intents.paused:
        reason = f"{spec.candidate.name} served lately, so it gets all traffic at once; not judged"
    else:
        return None
    return Ending(Phase.PROMOTED, Verdict.PROMOTE, reason, full=True)


def refused(spec: RolloutSpec, candidate: ArmCondition, since: float, now: float) -> Ending | None:
    """Of a candidate that was not ready in time, counted from `since`; None while it has time."""
    if now - since <= spec.ready_within.total_seconds():
        return None
    why = f": {candidate.reason}" if candidate.reason else ""
    return Ending(Phase.ROLLED_BACK, Verdict.ROLLBACK, f"the candidate was not ready within {spec.ready_within}{why}")


def undivided(state: RolloutState) -> Ending | None:
    """Of a rollout whose traffic can never be divided as its step asks."""
    if not state.unsupported:
        return None
    return Ending(Phase.ROLLED_BACK, Verdict.ROLLBACK, f"the traffic cannot be divided: {state.unsupported}")


def failed(candidate: ArmCondition) -> Ending | None:
    """Of a candidate that says it cannot start."""
    if candidate.readiness is not Readiness.FAILED:
        return None
    return Ending(Phase.ROLLED_BACK, Verdict.ROLLBACK, f"the candidate cannot start: {candidate.reason}")


def expired(spec: RolloutSpec, state: RolloutState, evidence: Evidence, now: float) -> Ending | None:
    """By the policy once the maximum duration is over; None before, and while it is paused.

    A frozen rollout ends undecided whatever the policy says, and one whose evidence is away is not promoted: what that
    would rest on cannot be trusted. A candidate that is not ready is not promoted; it comes back or is refused.
    """
    if now <= deadline(spec, state) or state.intents.paused:
        return None
    if state.frozen:
        reason = "frozen until the maximum duration: units did not reach the arms in the shares of the route"
        return Ending(Phase.UNDECIDED, Verdict.HOLD, reason)
    policy = spec.policy.on_inconclusive if state.enough else spec.policy.on_no_data
    if policy == "promote" and not ready(state):
        return None
    reason = "not decided" if state.enough else f"not enough data ({evidence.closed} exposures closed)"
    if evidence.absent:
        policy = "hold" if policy == "promote" else policy
        reason = f"the evidence is away ({evidence.absent}), so nothing was decided"
    phase, verdict = {
        "hold": (Phase.UNDECIDED, Verdict.HOLD),
        "promote": (Phase.PROMOTED, Verdict.PROMOTE),
        "rollback": (Phase.ROLLED_BACK, Verdict.ROLLBACK),
    }[policy]
    return Ending(phase, verdict, f"{reason} within the maximum duration of {spec.policy.max_duration}: {policy}")
