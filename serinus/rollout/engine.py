"""One tick of a rollout over its ports: read, decide, write the decision, act (DESIGN D5).

Invariant: nothing is done that is not written before, and nothing is done before what was heard is decided; what a
killed tick left undone is pending in what it wrote. So a tick can be killed between any two calls, repeated, or run
late, and the rollout comes to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from serinus.core.errors import SerinusError
from serinus.core.rollout.actions import Action, EnsureArm, SetRoute, blocked, delayed, done
from serinus.core.rollout.evidence import Evidence, SampleRatio
from serinus.core.rollout.machine import step
from serinus.core.rollout.ports import (
    Arms,
    EvidenceSource,
    InForce,
    RolloutEvidence,
    RolloutStore,
    Splitter,
    Unsupported,
)
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats import srm
from serinus.core.stats.judge import Judge, tests_of
from serinus.core.stats.reading import Look, Reading
from serinus.core.words import Arm

Now = Callable[[], float]


@dataclass(frozen=True)
class Ports:
    """The four of a rollout."""

    arms: Arms
    splitter: Splitter
    evidence: EvidenceSource
    store: RolloutStore


@dataclass
class _Read:
    """Looks that were judged in this process: a judge is a fold, and can be made anew from the first look."""

    judge: Judge
    readings: list[Reading] = field(default_factory=list)


class Engine:
    """Ticks the rollouts of one service. Whoever ticks holds the service's lock."""

    def __init__(self, ports: Ports, now: Now) -> None:
        self._ports, self._now = ports, now
        self._judged: dict[str, _Read] = {}

    def tick(self, name: str, *, turn: bool = True, absent: str = "") -> RolloutState:
        """One tick; the state after it. `absent`: why the evidence is known to be away.

        Raises `Conflict` when another engine ticked, and what arms, splitter and store raise.
        """
        store = self._ports.store
        spec, state = store.spec(name), store.state(name)
        evidence = self.evidence(spec, state, turn=turn, absent=absent)
        after, actions = step(spec, state, evidence, store.intents(name), self._now())
        if after != state:
            store.save(after, state)
        return self._act(after, actions)

    def readings(self, spec: RolloutSpec, state: RolloutState) -> tuple[Reading, ...]:
        """Every look that has closed so far, judged."""
        return tuple(self._judge(spec, self._ports.evidence.read(spec, state).looks))

    def evidence(self, spec: RolloutSpec, state: RolloutState, *, turn: bool, absent: str = "") -> Evidence:
        """What a tick decides from. A source that does not answer takes nothing else from the tick."""
        candidate = self._ports.arms.condition(spec.candidate)
        if absent:
            return Evidence(candidate=candidate, absent=absent, turn=turn)
        try:
            found = self._ports.evidence.read(spec, state)
        except SerinusError as fault:
            return Evidence(candidate=candidate, absent=fault.headline, turn=turn)
        readings = self._judge(spec, found.looks)
        return Evidence(
            candidate=candidate,
            readings=tuple(one for one in readings if one.sequence > state.looks),
            ratio=sample_ratio(state, found),
            unjudged=dict(found.unjudged),
            closed=found.closed,
            turn=turn,
        )

    def _judge(self, spec: RolloutSpec, looks: Sequence[Look]) -> list[Reading]:
        known = self._judged.get(spec.name)
        if known is None:
            tests = tests_of(spec.kpis, spec.policy, independent_outcomes=spec.independent_outcomes)
            known = self._judged[spec.name] = _Read(Judge(tests))
        known.readings += [known.judge.read(look) for look in looks[len(known.readings) :]]
        return known.readings

    def _act(self, state: RolloutState, actions: Sequence[Action]) -> RolloutState:
        """Does what is due and writes what came of it; what fails holds up nothing else, and is raised at the end."""
        after, faults = state, list[SerinusError]()
        for action in actions:
            if blocked(after, action):
                continue
            try:
                after = self._done(after, action)
            except SerinusError as fault:
                after = delayed(after, action.act, fault.headline)
                faults.append(fault)
        if after != state:
            self._ports.store.save(after, state)
        if faults:
            raise faults[0]
        return after

    def _done(self, state: RolloutState, action: Action) -> RolloutState:
        if isinstance(action, SetRoute):
            return self._routed(state, action)
        if isinstance(action, EnsureArm):
            self._ports.arms.ensure(action.revision)
        else:
            self._ports.arms.remove(action.revision)
        return done(state, action.act, self._now())

    def _routed(self, state: RolloutState, action: SetRoute) -> RolloutState:
        """A step begins now at the earliest: the evidence of this tick was read without it."""
        found = self._ports.splitter.apply(action.route)
        if isinstance(found, InForce):
            return done(state, action.act, max(found.at, self._now()))
        if isinstance(found, Unsupported):
            state = state.changed(unsupported=found.why)
        return delayed(state, action.act, found.why)


def sample_ratio(state: RolloutState, found: RolloutEvidence) -> SampleRatio:
    """The sequential test of the arms' shares, looked at after every unit; a step has the weight it was routed by."""
    total = np.zeros(len(found.units))
    for number, record in enumerate(state.steps):
        share = record.weight / 100
        if 0 < share < 1:
            here = np.array([one.cell.step == number for one in found.units], dtype=np.bool_)
            canary = np.cumsum(here & np.array([one.cell.arm is Arm.CANARY for one in found.units], dtype=np.bool_))
            total += srm.log_e(canary.astype(np.float64), (np.cumsum(here) - canary).astype(np.float64), share)
    p_value = min(1.0, math.exp(-float(total.max(initial=0.0))))
    crossed = np.flatnonzero(total >= -math.log(srm.ALPHA))
    if not len(crossed):
        return SampleRatio(p_value=p_value)
    first = found.units[int(crossed[0])]
    return SampleRatio(crossed_after=first.looks, at=first.at, p_value=p_value)
