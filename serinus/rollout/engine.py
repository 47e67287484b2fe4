"""One tick of a rollout over its ports: read, decide, write the decision, act (DESIGN D5).

Invariant: nothing is done that is not written before, and nothing is done before what was heard is decided; what a
killed tick left undone is pending in what it wrote. So a tick can be killed between any two calls, repeated, or run
late, and the rollout comes to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from serinus.core.errors import Conflict, NotFound, SerinusError
from serinus.core.rollout.actions import Action, Remember, RemoveArm, SetRoute, blocked, delayed, done
from serinus.core.rollout.evidence import Evidence, SampleRatio
from serinus.core.rollout.machine import step
from serinus.core.rollout.memory import remembered
from serinus.core.rollout.ports import (
    Arms,
    Change,
    EvidenceSource,
    InForce,
    Pending,
    RolloutEvidence,
    ServiceStore,
    Splitter,
    Stored,
    Unsupported,
)
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats import srm
from serinus.core.stats.judge import Judge, tests_of
from serinus.core.stats.reading import Look, Reading
from serinus.core.words import Arm
from serinus.rollout.tick import Limit, Tick

Now = Callable[[], float]


@dataclass(frozen=True)
class Ports:
    """The four of a service."""

    arms: Arms
    splitter: Splitter
    evidence: EvidenceSource
    store: ServiceStore


@dataclass
class _Read:
    """Looks that were judged in this process: a judge is a fold, and can be made anew from the first look."""

    judge: Judge
    readings: list[Reading] = field(default_factory=list)


class Engine:
    """Ticks the rollouts of one service. Whoever ticks holds the service's lock; the fence is for those that slept."""

    def __init__(self, ports: Ports, now: Now, limit: Limit | None = None) -> None:
        self._ports, self._now, self._limit = ports, now, limit or Limit()
        self._judged: dict[str, _Read] = {}

    def now(self) -> float:
        """Epoch s, by the clock of whoever ticks."""
        return self._now()

    def begin(self) -> Tick:
        """Reads the service."""
        return Tick(self._ports.store, self._limit)

    def tick(self, name: str, *, turn: bool = True) -> RolloutState:
        """A tick of one rollout alone; see `step`. Raises `NotFound`."""
        return self.step(self.begin(), name, turn=turn)

    def step(self, tick: Tick, name: str, *, turn: bool = True, absent: str = "") -> RolloutState:
        """Takes a rollout further in a tick; its state afterwards. `absent`: why the evidence is known to be away.

        Raises `Conflict` when anything of the service was changed meanwhile, or the tick took too long; and what arms,
        splitter and store raise.
        """
        found = tick.snapshot.rollout(name)
        if found is None:
            raise NotFound(f"no rollout {name}")
        evidence = self.evidence(found.spec, found.state, turn=turn, absent=absent)
        after, actions = step(found.spec, found.state, evidence, found.intents, self._now())
        if after != found.state:
            tick.save(Change(state=after))
        return self._act(tick, replace(found, state=after), actions)

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

    def _act(self, tick: Tick, rollout: Stored, actions: Sequence[Action]) -> RolloutState:
        """Does what is due and writes what came of it; what fails holds up nothing else, and is raised at the end."""
        after, faults = rollout.state, list[SerinusError]()
        for action in actions:
            if blocked(after, action):
                continue
            try:
                after = self._done(tick, replace(rollout, state=after), action)
            except Conflict:
                raise
            except SerinusError as fault:
                after = delayed(after, action.act, fault.headline)
                faults.append(fault)
        if after != rollout.state:
            tick.save(Change(state=after))
        if faults:
            raise faults[0]
        return after

    def _done(self, tick: Tick, rollout: Stored, action: Action) -> RolloutState:
        spec, state = rollout.spec, rollout.state
        if isinstance(action, Remember):
            tick.remember(remembered(tick.memory, spec, state))
            return done(state, action.act, self._now())
        with tick.fenced():
            if isinstance(action, SetRoute):
                return self._routed(state, action)
            if isinstance(action, RemoveArm):
                found = self._ports.arms.remove(action.revision)
                if isinstance(found, Pending):
                    return delayed(state, action.act, found.why)
            else:
                self._ports.arms.ensure(action.revision)
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
