"""What is done to the world, as values; all of it follows from the written state, so a tick may be killed anywhere.

Invariant: every action may be done again; doing all of them in order makes the world what the state says (D5). The
registry is none of them: its aliases follow what serves, and nothing waits for them (D16).
"""

from __future__ import annotations

from dataclasses import dataclass

from serinus.core.rollout.evidence import Evidence, Readiness
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase


@dataclass(frozen=True)
class EnsureArm:
    """Start the servers of a revision unless they run; do not wait for them."""

    revision: Revision


@dataclass(frozen=True)
class SetRoute:
    """Make this the route of the service; returns when it is in force."""

    route: Route


@dataclass(frozen=True)
class RemoveArm:
    """Stop the servers of a revision once they have answered what they took."""

    revision: Revision


Action = EnsureArm | SetRoute | RemoveArm


def actions_of(spec: RolloutSpec, state: RolloutState) -> tuple[Action, ...]:
    """Everything a state asks for, in order: an arm is there before traffic reaches it and goes after traffic left."""
    routed: tuple[Action, ...] = (SetRoute(state.route),) if state.route else ()
    if state.phase is Phase.QUEUED:
        return ()
    if not state.phase.ended:
        return (EnsureArm(spec.candidate), *routed)
    if state.phase is not Phase.PROMOTED:
        return (*routed, RemoveArm(spec.candidate)) if state.started_at is not None else ()
    idle = (RemoveArm(spec.stable),) if spec.policy.hold_back == 0 else ()
    return (*routed, *idle)


def due(spec: RolloutSpec, state: RolloutState, evidence: Evidence) -> tuple[Action, ...]:
    """What is left to do: all when a change was not acted on yet; the candidate again where it should run but does not.

    The latter because a process can die without any decision.
    """
    if state.acted < state.written:
        return actions_of(spec, state)
    live = state.phase in (Phase.DEPLOYING, Phase.STEPPING)
    return (EnsureArm(spec.candidate),) if live and evidence.candidate.readiness is not Readiness.READY else ()


def completed(state: RolloutState) -> RolloutState:
    """The state once its actions are done. Losing this write is harmless: they are done again."""
    return state.changed(acted=state.written)
