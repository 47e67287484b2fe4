"""What is done to the world, as values; all of it follows from the written state, so a tick may be killed anywhere.

Invariant: each act is pending or done for itself, may be done again, and holds up only what needs it: an arm that lost
its traffic is removed once the route that took it is in force (D5). The registry is none of them: its aliases follow
what serves, and nothing waits for them (D16).
"""

from __future__ import annotations

from dataclasses import dataclass

from serinus.core.rollout.evidence import Evidence, Readiness
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.core.rollout.state import Act, RolloutState
from serinus.core.words import Phase


@dataclass(frozen=True)
class EnsureArm:
    """Start the servers of a revision unless they run; do not wait for them."""

    revision: Revision
    act = Act.START


@dataclass(frozen=True)
class SetRoute:
    """Make this the route of the service, and ask whether it is in force; do not wait for it."""

    route: Route
    act = Act.ROUTE


@dataclass(frozen=True)
class RemoveArm:
    """Stop the servers of a revision once they have answered what they took."""

    revision: Revision
    act = Act.REMOVE


@dataclass(frozen=True)
class Remember:
    """Tell the service's memory how the rollout ended: who serves, and what was refused."""

    act = Act.REMEMBER


Action = EnsureArm | Remember | SetRoute | RemoveArm


def asked(spec: RolloutSpec, before: RolloutState, after: RolloutState) -> dict[Act, str]:
    """What is pending once `after` is written: what was, unless it is asked no more, and what `after` asks anew."""
    pending = {act: why for act, why in before.pending.items() if act is not Act.START or not after.phase.ended}
    if before.phase is Phase.QUEUED and not after.phase.ended and after.phase is not Phase.QUEUED:
        pending[Act.START] = ""
    if after.route != before.route:
        pending[Act.ROUTE] = ""
    if after.phase.ended and not before.phase.ended:
        pending |= {Act.REMEMBER: "", **({Act.REMOVE: ""} if _idle(spec, after) else {})}
    return pending


def due(spec: RolloutSpec, state: RolloutState, evidence: Evidence) -> tuple[Action, ...]:
    """What is to be done now, in order; the candidate also where it should run and does not.

    The latter because a process can die without any decision.
    """
    live = state.phase in (Phase.DEPLOYING, Phase.STEPPING)
    lost = live and evidence.candidate.readiness is not Readiness.READY
    found: list[Action] = [EnsureArm(spec.candidate)] if lost or Act.START in state.pending else []
    if Act.REMEMBER in state.pending:
        found.append(Remember())
    if Act.ROUTE in state.pending and state.route is not None:
        found.append(SetRoute(state.route))
    idle = _idle(spec, state)
    if Act.REMOVE in state.pending and idle is not None:
        found.append(RemoveArm(idle))
    return tuple(found)


def blocked(state: RolloutState, action: Action) -> bool:
    """Whether an action waits for another: an arm keeps its servers while traffic may still reach it, or come back."""
    return isinstance(action, RemoveArm) and bool(state.pending.keys() & {Act.REMEMBER, Act.ROUTE})


def done(state: RolloutState, act: Act, at: float) -> RolloutState:
    """The state once an act is done; a route that is in force since `at` (epoch s) begins its step.

    Losing this write is harmless: the act is done again, and the step begins a little later.
    """
    state = state.changed(pending={other: why for other, why in state.pending.items() if other is not act})
    if act is not Act.ROUTE:
        return state
    state = state.changed(in_force_at=at)
    if state.phase.ended or not state.steps:
        return state
    begun = state.steps[-1].model_copy(update={"in_force_at": at})
    return state.changed(steps=(*state.steps[:-1], begun))


def delayed(state: RolloutState, act: Act, why: str) -> RolloutState:
    """The state while an act cannot be done yet, and why."""
    return state.changed(pending={**state.pending, act: why})


def _idle(spec: RolloutSpec, state: RolloutState) -> Revision | None:
    """The arm that an end leaves without traffic; None where there is none."""
    if state.phase is Phase.PROMOTED:
        return spec.stable if state.route is not None and state.route.weight == 100 else None
    return spec.candidate if state.phase.ended and state.started_at is not None else None
