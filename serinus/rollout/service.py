"""One service: brings its first revision up, makes a rollout for each newly wanted one, and ticks the one that lives.

Invariant: who serves is what the service's memory says, never what a list of rollouts lets one guess; a revision that
was tried and not promoted is not tried again until version, template or retry change (DESIGN D4). A route never has
three arms. The registry is told what serves, and asked nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.memory import (
    ServiceMemory,
    Wanted,
    began,
    brought,
    counted,
    first_served,
    is_new,
    refused,
    rollout_name,
    undone,
)
from serinus.core.rollout.ports import Change, InForce, Pending, Stored
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, Revision, RolloutSpec, Said
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout.engine import Engine, Now, Ports
from serinus.rollout.registry_sync import InService, Synced
from serinus.rollout.tick import Limit, Tick

# Freezes the policy of a rollout of that name, from the stable revision to what is wanted.
Make = Callable[[str, Wanted, Revision], RolloutSpec]


class Standing(StrEnum):
    """How a service stands."""

    STARTING = "starting"
    SERVING = "serving"
    ROLLING_OUT = "rolling out"
    WANTED_NOT_SERVING = "wanted, not serving"


@dataclass(frozen=True)
class ServiceView:
    """What a service serves, the rollout that lives or was the last, and why what is wanted does not serve.

    `registry`: whether the registry says so, too; None while nothing serves.
    """

    standing: Standing
    stable: Revision | None
    wanted: Revision
    rollout: RolloutState | None = None
    reason: str = ""
    registry: Synced | None = None


class Follower(Protocol):
    """Keeps the registry's aliases on what serves. Never raises, never waits."""

    def follow(self, wanted: InService) -> Synced:
        """What is known of it so far."""


class ServiceController:
    """Ticks one service over its ports."""

    def __init__(self, ports: Ports, registry: Follower, make: Make, now: Now, limit: Limit | None = None) -> None:
        self._ports, self._registry, self._make = ports, registry, make
        self.engine = Engine(ports, now, limit)

    def tick(self, absent: str = "") -> ServiceView:
        """One tick of the service and of its rollout; then the registry, for which nothing waits.

        `absent`: why the evidence is known to be away. Raises `Conflict` when the service was changed meanwhile.
        """
        tick = self.engine.begin()
        view = self._ticked(tick, absent)
        serves = in_service(tick.memory)
        return replace(view, registry=self._registry.follow(serves)) if serves is not None else view

    def _ticked(self, tick: Tick, absent: str) -> ServiceView:
        tick.remember(counted(tick.memory, tick.snapshot.wanted))
        stable = tick.memory.stable
        if stable is None:
            return self._bring_up(tick)
        self._ensure(tick, stable)
        self._found(tick)
        undoes = self._undo(tick)
        name = _live(tick) or (None if undoes else self._begin(tick))
        if name is None:
            return _view(tick, self._rested(tick, absent))
        self._supersede(tick, name)
        return _view(tick, self._stepped(tick, name, absent))

    def stable(self) -> Revision | None:
        """The revision in service; None before the first."""
        return self.engine.begin().memory.stable

    def settled(self) -> bool:
        """Whether nothing is left to decide: no rollout lives, and what is wanted serves or was tried."""
        tick = self.engine.begin()
        memory, live = tick.memory, _live(tick) is not None or tick.memory.live is not None
        waits = live or is_new(memory, tick.snapshot.wanted) or _to_undo(tick)[0] is not None
        return memory.stable is not None and not waits

    def reached(self) -> list[Revision]:
        """The revisions that the route in force leads to, and the stable one."""
        memory = self.engine.begin().memory
        if memory.stable is None:
            return []
        names, route = {memory.stable.name}, memory.route
        if route is not None:
            names |= {route.canary} | ({route.stable} if route.weight < 100 else set())
        return list({one.name: one for one in memory.revisions if one.name in names}.values())

    def _ensure(self, tick: Tick, revision: Revision) -> None:
        with tick.fenced():
            self._ports.arms.ensure(revision)

    def _bring_up(self, tick: Tick) -> ServiceView:
        """Ready and golden rows reproduced: all traffic (D4)."""
        wanted = tick.snapshot.wanted
        self._ensure(tick, wanted.first)
        found = self._ports.arms.condition(wanted.first)
        if found.readiness is not Readiness.READY:
            return ServiceView(Standing.STARTING, None, wanted.revision, None, found.reason)
        route = alone(wanted.first, wanted.first.name)
        with tick.fenced():
            applied = self._ports.splitter.apply(route)
        if not isinstance(applied, InForce):
            return ServiceView(Standing.STARTING, None, wanted.revision, None, applied.why)
        tick.remember(first_served(tick.memory, wanted.first, route))
        return ServiceView(Standing.SERVING, wanted.first, wanted.revision)

    def _found(self, tick: Tick) -> None:
        """Takes up a rollout that was made and not remembered, and aborts one that somebody deleted while it lived."""
        live, name = tick.memory.live, _live(tick)
        found = tick.snapshot.rollout(name) if name is not None else None
        if live is None and found is not None and not found.state.phase.ended:
            tick.remember(began(tick.memory, found.spec))
        elif live is not None and tick.snapshot.rollout(live.rollout) is None:
            tick.remember(_deleted(tick.memory, self.engine.now()))

    def _undo(self, tick: Tick) -> bool:
        """Takes the last promotion back where a person asks for it, once the revision before is ready.

        What lives meanwhile is aborted first, and nothing begins: whether that is waited for. A revision that is not
        ready in time is waited for no more, or nothing would ever be rolled out again.
        """
        last, before = _to_undo(tick)
        if last is None or before is None:
            return False
        why, name = last.intents.who("undo"), _live(tick)
        live = tick.snapshot.rollout(name) if name is not None else None
        if live is not None:
            if not live.intents.abort and not live.state.phase.ended:
                told = {**live.intents.said, "abort": Said(reason=f"{last.spec.name} is undone{why}")}
                asked = live.intents.model_copy(update={"abort": True, "said": told})
                tick.save(Change(intents=(live.spec.name, asked)))
            return True
        self._ensure(tick, before)
        found = self._ports.arms.condition(before)
        if found.readiness is Readiness.READY:
            known = [one for one in (last.state.route, tick.memory.rest) if one and one.rollout == last.spec.name]
            route = alone(before, last.spec.name, 1 + max((one.number for one in known), default=0))
            tick.remember(undone(tick.memory, tick.snapshot.wanted, why, route, self.engine.now()))
            return False
        late = found.readiness is Readiness.FAILED or _late(last.spec, found, self.engine.now())
        if late:
            others = tuple(one for one in tick.memory.spare if one.name != before.name)
            tick.remember(tick.memory.changed(spare=(*others, before)))  # it was started, and is ended as they are
            tick.save(Change(intents=(last.spec.name, _given_up(last.intents, before))))
        return not late

    def _begin(self, tick: Tick) -> str | None:
        """Ends the hold-back of the rollout before, then makes the new one; None until that is done, or without a wish.

        It is later than every other one, also where the clock was set back.
        """
        wanted, stable = tick.snapshot.wanted, tick.memory.stable
        if stable is None or not is_new(tick.memory, wanted):
            return None
        name = rollout_name(tick.memory, wanted)
        tick.remember(tick.memory.changed(rest=alone(stable, name)))
        if not self._rests(tick):
            return None
        spec = self._made(tick, name, stable)
        tick.save(Change(made=spec, memory=began(tick.memory, spec)))
        return name

    def _made(self, tick: Tick, name: str, stable: Revision) -> RolloutSpec:
        spec = self._make(name, tick.snapshot.wanted, stable)
        latest = max((one.spec.created_at for one in tick.snapshot.rollouts), default=-math.inf)
        lately = [one.name for one in tick.memory.previous[: spec.policy.rollback_window]]
        return spec.model_copy(
            update={
                "created_at": max(spec.created_at, math.nextafter(latest, math.inf)),
                "at_once": spec.candidate.name in lately,
            }
        )

    def _rests(self, tick: Tick) -> bool:
        """Whether the route between rollouts is in force; then every arm ends that it does not lead to."""
        rest = tick.memory.rest
        if rest is None:
            return True
        if rest != tick.memory.route:
            with tick.fenced():
                if not isinstance(self._ports.splitter.apply(rest), InForce):
                    return False
            tick.remember(tick.memory.changed(route=rest))
        kept = tuple(
            one for one in tick.memory.spare if one.name in (rest.stable, rest.canary) or self._ends(tick, one)
        )
        tick.remember(tick.memory.changed(spare=kept))
        return True

    def _ends(self, tick: Tick, revision: Revision) -> bool:
        """Whether an arm still answers what it took; it was told to end."""
        with tick.fenced():
            return isinstance(self._ports.arms.remove(revision), Pending)

    def _stepped(self, tick: Tick, name: str, absent: str) -> RolloutState:
        """A rollout taken further; the memory knows its route once that is in force."""
        state = self.engine.step(tick, name, absent=absent)
        if state.in_force_at is not None:
            tick.remember(tick.memory.changed(route=state.route))
        return state

    def _rested(self, tick: Tick, absent: str) -> RolloutState | None:
        """While no rollout lives: the hold-back of the last promoted one is kept up and looked at, until it is over."""
        last = _last_promoted(tick)
        if last is not None and _held_back_enough(last, self.engine.now()) and tick.memory.rest == last.state.route:
            route = alone(last.spec.candidate, last.spec.name, last.state.route.number + 1 if last.state.route else 0)
            tick.remember(tick.memory.changed(rest=route))
        self._rests(tick)
        rest = tick.memory.rest
        for one in tick.memory.spare:
            if rest is not None and one.name == rest.stable and rest.weight < 100:
                self._ensure(tick, one)
        if last is None or rest != last.state.route:
            return last.state if last is not None else None
        return self._stepped(tick, last.spec.name, absent)

    def _supersede(self, tick: Tick, name: str) -> None:
        """Tells the live rollout of a newer revision; one that has ended and is only to be finished is told nothing."""
        found, wanted = tick.snapshot.rollout(name), tick.snapshot.wanted
        if found is None or found.state.phase.ended:
            return
        tick.remember(brought(tick.memory, wanted, found.spec))
        newer = "" if wanted.revision.name == found.spec.candidate.name else wanted.revision.name
        if found.intents.superseded_by != newer:
            tick.save(Change(intents=(name, _superseded(found.intents, newer))))
        if newer and found.spec.policy.on_supersede == "reject" and is_new(tick.memory, wanted):
            self._reject(tick, found.spec)

    def _reject(self, tick: Tick, live: RolloutSpec) -> None:
        """What is wanted counts as tried. Killed after any of its writes, the next tick does the others."""
        memory, wanted = tick.memory, tick.snapshot.wanted
        name = rollout_name(memory, wanted)
        if tick.snapshot.rollout(name) is None:
            tick.save(Change(made=self._made(tick, name, live.stable)))
        found = tick.snapshot.rollout(name)
        assert found is not None  # noqa: S101 - it was just made
        at, why = found.spec.created_at, f"rejected: rollout {live.name} was under way"
        ended = found.state.changed(phase=Phase.SUPERSEDED, reason=why, ended_at=at)
        told = refused(memory, wanted.revision, name, Phase.SUPERSEDED, why, at).changed(tried=memory.change)
        tick.save(Change(state=ended, memory=told))


def in_service(memory: ServiceMemory) -> InService | None:
    """What the registry is to be told; None before the first revision serves."""
    stable, decided = memory.stable, memory.decided
    if stable is None:
        return None
    if decided is None:
        return InService(stable.service, stable)
    return InService(stable.service, stable, decided.before, decided.rollout, decided.reason)


def alone(stable: Revision, rollout: str, number: int = 0) -> Route:
    """All traffic to one revision."""
    return Route(service=stable.service, rollout=rollout, number=number, stable=stable.name, seed=0, hold_back=0)


def _held_back_enough(promoted: Stored, now: float) -> bool:
    """Whether the hold-back of a promotion has lasted as long as its policy says."""
    most, since = promoted.spec.policy.hold_back_for, promoted.state.in_force_at
    return most is not None and since is not None and now - since >= most.total_seconds()


def _live(tick: Tick) -> str | None:
    """The rollout that has not ended, or whose end was written and not yet acted on."""
    states = (one.state for one in tick.snapshot.rollouts)
    return next((one.name for one in states if not one.phase.ended or one.pending), None)


def _last_promoted(tick: Tick) -> Stored | None:
    decided = tick.memory.decided
    return tick.snapshot.rollout(decided.rollout) if decided is not None else None


def _to_undo(tick: Tick) -> tuple[Stored | None, Revision | None]:
    """The last promotion and the revision before it, where a person wants that back."""
    last, decided = _last_promoted(tick), tick.memory.decided
    if last is None or decided is None or decided.undone or not last.intents.undo:
        return None, None
    return last, decided.before


def _deleted(memory: ServiceMemory, now: float) -> ServiceMemory:
    """A rollout that was deleted while it lived was aborted by whoever did it: its traffic goes back."""
    live, stable, route = memory.live, memory.stable, memory.route
    assert live is not None and stable is not None  # noqa: S101, PT018 - only asked where both are
    number = route.number + 1 if route is not None and route.rollout == live.rollout else 0
    memory = memory.changed(live=None, rest=alone(stable, live.rollout, number))
    return refused(memory, live.candidate, live.rollout, Phase.ABORTED, "deleted while it was under way", now)


def _view(tick: Tick, state: RolloutState | None) -> ServiceView:
    stable, wanted, memory = tick.memory.stable, tick.snapshot.wanted, tick.memory
    assert stable is not None  # noqa: S101 - only called while something serves
    if state is not None and not state.phase.ended:
        return ServiceView(Standing.ROLLING_OUT, stable, wanted.revision, state)
    if wanted.revision.name == stable.name:
        return ServiceView(Standing.SERVING, stable, wanted.revision, state)
    refusal = memory.refusal(wanted.revision)
    if refusal is None or is_new(memory, wanted):
        return ServiceView(Standing.WANTED_NOT_SERVING, stable, wanted.revision, state, "waits for its rollout")
    tried = tick.snapshot.rollout(refusal.rollout)
    reason = f"{refusal.phase}: {refusal.reason}"
    return ServiceView(Standing.WANTED_NOT_SERVING, stable, wanted.revision, tried.state if tried else state, reason)


def _late(spec: RolloutSpec, arm: ArmCondition, now: float) -> bool:
    return now - arm.since > spec.ready_within.total_seconds()


def _given_up(intents: Intents, before: Revision) -> Intents:
    told = Said(by=intents.said.get("undo", Said()).by, reason=f"given up: {before.name} was not ready in time")
    return intents.model_copy(update={"undo": False, "said": {**intents.said, "undo": told}})


def _superseded(intents: Intents, by: str) -> Intents:
    return intents.model_copy(update={"superseded_by": by})
