"""The pure step of a rollout: what was, what is known now and what people ask for, to what is next (D5, D6, D8).

Invariant: the same looks give the same verdict in any grouping into ticks: they are taken strictly in order, and a look
decides by its own time, never by the clock. The clock decides only where no look can: readiness, approval, the end of
the maximum duration. End states absorb.
"""

from __future__ import annotations

from serinus.core.rollout.actions import Action, asked, due
from serinus.core.rollout.endings import (
    Ending,
    at_once,
    ended,
    expired,
    failed,
    harmed,
    left,
    promoted,
    refused,
    routed,
    undivided,
)
from serinus.core.rollout.entries import decided, read, told
from serinus.core.rollout.evidence import Evidence, Readiness, SampleRatio
from serinus.core.rollout.looks import after_promotion, consumed, in_order
from serinus.core.rollout.rules import deadline, first_harm, first_shown, held, route_at, stage_at, waits_for
from serinus.core.rollout.spec import Intents, RolloutSpec, kind_of
from serinus.core.rollout.state import Condition, RolloutState, StepRecord
from serinus.core.stats.reading import Reading
from serinus.core.words import Phase, Verdict


def step(
    spec: RolloutSpec, state: RolloutState, evidence: Evidence, intents: Intents, now: float
) -> tuple[RolloutState, tuple[Action, ...]]:
    """The state to write, and what to do once it is written; `now` in epoch s.

    Equal to the state before when nothing is new; what is still pending comes again.
    """
    after = _next(spec, state, evidence, intents, now)
    if after != state:
        after = after.changed(pending=asked(spec, state, after))
    return after, due(spec, after, evidence)


def _next(spec: RolloutSpec, state: RolloutState, evidence: Evidence, intents: Intents, now: float) -> RolloutState:
    if state.phase is Phase.PROMOTED:
        return _watched(state, evidence)
    if state.phase.ended:
        return state
    state = _heard(spec, state, intents, now)
    if state.phase is Phase.QUEUED:
        return _begun(state, evidence, now)
    if state.phase is Phase.DEPLOYING:
        return _deployed(spec, state, evidence, now)
    return _stepped(spec, state, evidence, now) if state.phase is Phase.STEPPING else state


def _watched(state: RolloutState, evidence: Evidence) -> RolloutState:
    for reading in in_order(evidence.readings, state.looks):
        state = after_promotion(state, reading)
    return state


def _heard(spec: RolloutSpec, state: RolloutState, intents: Intents, now: float) -> RolloutState:
    """Writes down what is asked for the first time, and ends the rollout where that is what was asked."""
    if intents == state.intents:
        return state
    notes = _heard_anew(spec, state.intents, intents)
    state = state.changed(intents=intents)
    for verdict, text in notes:
        state = told(state, now, "intent", verdict, text)
    ending: Ending | None = None
    if intents.abort:
        ending = Ending(Phase.ABORTED, Verdict.HOLD, f"aborted on request{intents.who('abort')}")
    elif intents.superseded_by and spec.policy.on_supersede == "replace":
        ending = Ending(Phase.SUPERSEDED, Verdict.HOLD, f"replaced by {intents.superseded_by}")
    return ended(spec, state, ending, at=now, now=now) if ending else state


def _heard_anew(spec: RolloutSpec, before: Intents, after: Intents) -> list[tuple[Verdict, str]]:
    notes: list[tuple[Verdict, str]] = []
    if after.paused != before.paused:
        verdict, what = (Verdict.HOLD, "paused") if after.paused else (Verdict.CONTINUE, "resumed")
        notes.append((verdict, what + after.who("paused")))
    given, withdrawn = {*after.approved} - {*before.approved}, {*before.approved} - {*after.approved}
    notes += [(Verdict.CONTINUE, f"step {index} is approved{after.who(str(index))}") for index in sorted(given)]
    notes += [(Verdict.CONTINUE, f"the approval of step {index} is withdrawn") for index in sorted(withdrawn)]
    if after.abort and not before.abort:
        notes.append((Verdict.HOLD, f"asked to abort{after.who('abort')}"))
    if after.promote_full and not before.promote_full:
        notes.append((Verdict.CONTINUE, f"asked to promote in full{after.who('promote_full')}"))
    if after.superseded_by != before.superseded_by:
        newer, policy = after.superseded_by, spec.policy.on_supersede
        notes.append((Verdict.CONTINUE, f"{newer} is newer: {policy}" if newer else "nothing is newer any more"))
    return notes


def _begun(state: RolloutState, evidence: Evidence, now: float) -> RolloutState:
    if not evidence.turn or state.intents.paused:
        return state
    state = state.changed(phase=Phase.DEPLOYING, started_at=now)
    return told(state, now, "step", Verdict.CONTINUE, "the candidate is started")


def _deployed(spec: RolloutSpec, state: RolloutState, evidence: Evidence, now: float) -> RolloutState:
    """A candidate that is not ready in time, or says that it cannot be, is refused; no traffic ever moved."""
    state = _candidate(state, evidence)
    if direct := at_once(spec, state, evidence):
        return ended(spec, state, direct, at=now, now=now)
    if evidence.candidate.readiness is Readiness.READY:
        return state if state.intents.paused else _entered(spec, state.changed(phase=Phase.STEPPING), 0, now)
    # While nobody ticked, as between two processes, nobody knows whether it would have been ready.
    since = max(evidence.candidate.since, now if state.started_at is None else state.started_at)
    ending = failed(evidence.candidate) or refused(spec, evidence.candidate, since, now)
    return ended(spec, state, ending, at=now, now=now) if ending else state


def _stepped(spec: RolloutSpec, state: RolloutState, evidence: Evidence, now: float) -> RolloutState:
    state = _fresh(_candidate(state, evidence), evidence, now)
    state = state if evidence.absent else state.changed(unjudged=evidence.unjudged)
    if direct := at_once(spec, state, evidence):
        return ended(spec, state, direct, at=now, now=now)
    for reading in in_order(evidence.readings, state.looks):
        state = _frozen(state, evidence.ratio, reading.sequence)
        state = _looked(spec, state, reading, now)
    state = _frozen(state, evidence.ratio, state.looks + 1)
    if state.phase is Phase.STEPPING:
        state = _decided(spec, state, at=now, now=now)
    return _outlived(spec, state, evidence, now) if state.phase is Phase.STEPPING else state


def _outlived(spec: RolloutSpec, state: RolloutState, evidence: Evidence, now: float) -> RolloutState:
    """Ends what no look has decided: a route that cannot be made or a candidate that was lost, even while paused, or a
    duration that is over."""
    candidate, ending = evidence.candidate, undivided(state)
    if ending is None and candidate.readiness is not Readiness.READY:
        ending = refused(spec, candidate, candidate.since, now)
    ending = ending or expired(spec, state, evidence, now)
    return ended(spec, state, ending, at=now, now=now) if ending else state


def _looked(spec: RolloutSpec, state: RolloutState, reading: Reading, now: float) -> RolloutState:
    """One look: taken in, then whatever follows of it. One past the maximum duration is only counted."""
    if state.phase is Phase.PROMOTED:
        return after_promotion(state, reading)
    if state.phase.ended:
        return state
    if reading.at > deadline(spec, state):
        return state.changed(looks=reading.sequence)
    crossed = len(state.crossed)
    state = consumed(state, reading)
    after = _decided(spec, state, at=reading.at, now=now)
    if after is not state or len(state.crossed) > crossed:
        return after
    hold = held(state)
    return read(state, reading, "look", Verdict.HOLD if hold else Verdict.CONTINUE, hold or waits_for(spec, state))


def _decided(spec: RolloutSpec, state: RolloutState, *, at: float, now: float) -> RolloutState:
    """What follows of what is known: a rollback by the first harm, else the steps that wait for nothing."""
    if held(state):
        return state
    harm = first_harm(state)
    if harm:
        return ended(spec, state, harmed(harm), at=at, now=now)
    while state.phase is Phase.STEPPING and not waits_for(spec, state):
        state = _advanced(spec, state, at, now)
    return state


def _advanced(spec: RolloutSpec, state: RolloutState, at: float, now: float) -> RolloutState:
    if state.step + 1 == len(spec.policy.steps):
        return ended(spec, state, promoted(spec, state), at=at, now=now)
    stage = stage_at(spec, state.step)
    by = state.readings.get(stage, {}).get(first_shown(spec, state, stage))
    kind = kind_of(spec.policy.steps[state.step])
    state = decided(state.changed(reason=f"step {state.step} ({kind}) is done"), at, "step", Verdict.ADVANCE, by)
    return _entered(spec, state, state.step + 1, now)


def _entered(spec: RolloutSpec, state: RolloutState, index: int, now: float) -> RolloutState:
    """In step `index`, from now on, whenever the look was that led here. It begins when its route is in force."""
    route = route_at(spec, index, state.route.number if state.route else 1)
    if state.route and route != state.route:
        route = route.model_copy(update={"number": state.route.number + 1})
    state = routed(left(state, now), route)
    record = StepRecord(
        kind=kind_of(spec.policy.steps[index]),
        weight=route.weight,
        share=route.share,
        entered_at=now,
        in_force_at=None if state.in_force_at is None else now,
    )
    return state.changed(step=index, steps=(*state.steps, record))


def _frozen(state: RolloutState, ratio: SampleRatio, sequence: int) -> RolloutState:
    """Freezes before look `sequence` when the sample-ratio test had crossed by then."""
    crossed = ratio.crossed_after is not None and ratio.crossed_after < sequence
    if not crossed or state.frozen or state.phase is not Phase.STEPPING:
        return state
    broken = Condition(name="SampleRatioMatched", holds=False, since=ratio.at, reason=f"p = {ratio.p_value:.2g}")
    state = state.known(broken).changed(frozen=True)
    return told(state, ratio.at, "freeze", Verdict.HOLD, held(state))


def _candidate(state: RolloutState, evidence: Evidence) -> RolloutState:
    candidate = evidence.candidate
    holds = candidate.readiness is Readiness.READY
    known = Condition(name="CandidateReady", holds=holds, since=candidate.since, reason=candidate.reason)
    return state.changed(conditions=(known, *(one for one in state.conditions if one.name != known.name)))


def _fresh(state: RolloutState, evidence: Evidence, now: float) -> RolloutState:
    """Whether there is evidence at all; said once it has been missing."""
    if not evidence.absent and all(one.name != "EvidenceFresh" for one in state.conditions):
        return state
    return state.known(Condition(name="EvidenceFresh", holds=not evidence.absent, since=now, reason=evidence.absent))
