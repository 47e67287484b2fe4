"""One service: brings its first revision up, makes a rollout for each newly wanted one, and ticks the one that lives.

Invariant: what serves follows from the first revision and the rollouts that were promoted; a revision that was tried
and not promoted is not tried again until version, template or retry change (DESIGN D4). A route never has three arms.
The registry is told what serves, and asked nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from serinus.core.rollout.evidence import Readiness
from serinus.core.rollout.ports import InForce, RolloutStore
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.rollout.engine import Engine, Now, Ports
from serinus.rollout.registry_sync import InService, Synced


class Standing(StrEnum):
    """How a service stands."""

    STARTING = "starting"
    SERVING = "serving"
    ROLLING_OUT = "rolling out"
    WANTED_NOT_SERVING = "wanted, not serving"


@dataclass(frozen=True)
class Wanted:
    """The revision that is wanted, the one that came first, and how often a refused one is to be tried again."""

    revision: Revision
    first: Revision
    retry: int = 0

    @property
    def rollout(self) -> str:
        """The name of the rollout that brings it: the same for the same try (D4)."""
        return self.revision.name + (f"-r{self.retry}" if self.retry else "")


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


class FirstFile(Protocol):
    """Remembers which revision was brought up first."""

    def get(self) -> Revision | None:
        """None before the first."""

    def put(self, revision: Revision) -> None:
        """Once."""


class ServiceController:
    """`wanted` is read anew at each tick; `make` freezes the policy of a new rollout from stable to candidate."""

    def __init__(
        self,
        ports: Ports,
        first: FirstFile,
        registry: Follower,
        wanted: Callable[[], Wanted],
        make: Callable[[Wanted, Revision], RolloutSpec],
        now: Now,
    ) -> None:
        self._ports, self._first, self._registry, self._wanted, self._make = ports, first, registry, wanted, make
        self.engine = Engine(ports, now)
        self._absent = ""

    def tick(self, absent: str = "") -> ServiceView:
        """One tick of the service and of its rollout; then the registry, for which nothing waits.

        `absent`: why the evidence is known to be away.
        """
        self._absent = absent
        view = self._ticked()
        serves = self._in_service()
        return replace(view, registry=self._registry.follow(serves)) if serves is not None else view

    def _ticked(self) -> ServiceView:
        wanted = self._wanted()
        stable = self.stable()
        if stable is None:
            return self._bring_up(wanted)
        self._ports.arms.ensure(stable)
        live = self._live()
        if live is None and self._is_new(wanted, stable):
            live = self._begin(wanted, stable)
        if live is not None:
            self._supersede(live, wanted)
            return self._view(wanted, self.engine.tick(live, absent=self._absent))
        return self._view(wanted, self._last_promoted())

    def stable(self) -> Revision | None:
        """See `stable_revision`."""
        return stable_revision(self._ports.store, self._first)

    def _in_service(self) -> InService | None:
        last, first = self._last_promoted(tick=False), self._first.get()
        if last is not None:
            spec = self._ports.store.spec(last.name)
            return InService(spec.service, spec.candidate, spec.stable, spec.name, last.reason)
        return InService(first.service, first) if first is not None else None

    def settled(self) -> bool:
        """Whether nothing is left to decide: no rollout lives, and what is wanted serves or was tried."""
        stable = self.stable()
        return stable is not None and self._live() is None and not self._is_new(self._wanted(), stable)

    def reached(self) -> list[Revision]:
        """The revisions that the route in force leads to."""
        stable, begun = self.stable(), _begun(self._ports.store)
        found = [stable] if stable is not None else []
        if begun and begun[-1].route is not None:
            route, spec = begun[-1].route, self._ports.store.spec(begun[-1].name)
            names = {route.canary} | ({route.stable} if route.weight < 100 else set())
            found += [one for one in (spec.stable, spec.candidate) if one.name in names and one != stable]
        return found

    def arms(self) -> list[Revision]:
        """All revisions that may run: of the first, the stable one and the newest rollout."""
        names = self._ports.store.names()
        found = [self._first.get(), self.stable()]
        for spec in map(self._ports.store.spec, names[-1:]):
            found += [spec.stable, spec.candidate]
        return list({one.name: one for one in found if one is not None}.values())

    def _bring_up(self, wanted: Wanted) -> ServiceView:
        """Ready and golden rows reproduced: all traffic (D4)."""
        revision, ports = wanted.first, self._ports
        ports.arms.ensure(revision)
        found = ports.arms.condition(revision)
        if found.readiness is not Readiness.READY:
            return ServiceView(Standing.STARTING, None, wanted.revision, None, found.reason)
        applied = ports.splitter.apply(_alone(revision, wanted.revision, revision.name))
        if not isinstance(applied, InForce):
            return ServiceView(Standing.STARTING, None, wanted.revision, None, applied.why)
        self._first.put(revision)
        return ServiceView(Standing.SERVING, revision, wanted.revision)

    def _begin(self, wanted: Wanted, stable: Revision) -> str | None:
        """Ends the hold-back of the rollout before, then makes the new one; None until the hold-back has ended."""
        spec = self._made(wanted, stable)
        if not isinstance(self._ports.splitter.apply(_alone(stable, wanted.revision, spec.name)), InForce):
            return None
        for one in self.arms():
            if one.name != stable.name:
                self._ports.arms.remove(one)
        self._ports.store.create(spec)
        return spec.name

    def _made(self, wanted: Wanted, stable: Revision) -> RolloutSpec:
        """Later than every other one, also where the clock was set back: what serves follows from their order."""
        spec, store = self._make(wanted, stable), self._ports.store
        latest = max((store.spec(name).created_at for name in store.names()), default=-math.inf)
        return spec.model_copy(update={"created_at": max(spec.created_at, math.nextafter(latest, math.inf))})

    def _supersede(self, live: str, wanted: Wanted) -> None:
        """Tells the live rollout of a newer revision; one that has ended and is only to be finished is told nothing."""
        store, spec = self._ports.store, self._ports.store.spec(live)
        if store.state(live).phase.ended:
            return
        newer = "" if wanted.revision.name == spec.candidate.name else wanted.revision.name
        if store.intents(live).superseded_by != newer:
            store.intend(live, lambda intents: _superseded(intents, newer))
        if newer and spec.policy.on_supersede == "reject":
            self._reject(wanted, spec)

    def _reject(self, wanted: Wanted, live: RolloutSpec) -> None:
        """What is wanted counts as tried. Killed after the first of two writes, the next tick does the second."""
        store = self._ports.store
        if wanted.rollout not in store.names():
            store.create(self._made(wanted, live.stable))
        first = store.state(wanted.rollout)
        if first.phase is Phase.QUEUED:
            at, why = store.spec(wanted.rollout).created_at, f"rejected: rollout {live.name} was under way"
            ended = first.changed(phase=Phase.SUPERSEDED, reason=why, ended_at=at)
            store.save(ended, first)

    def _is_new(self, wanted: Wanted, stable: Revision) -> bool:
        return wanted.revision.name != stable.name and wanted.rollout not in self._ports.store.names()

    def _live(self) -> str | None:
        """The rollout that has not ended, or whose end was written and not yet acted on."""
        store = self._ports.store
        states = map(store.state, store.names())
        return next((one.name for one in states if not one.phase.ended or one.pending), None)

    def _last_promoted(self, *, tick: bool = True) -> RolloutState | None:
        """Where no rollout began after it, its hold-back is kept up and looked at."""
        store = self._ports.store
        begun = _begun(store)
        last = _last_promoted(begun)
        if last is None or not tick or last is not begun[-1]:
            return last
        spec = store.spec(last.name)
        if spec.policy.hold_back:
            self._ports.arms.ensure(spec.stable)
        return self.engine.tick(last.name, absent=self._absent)

    def _view(self, wanted: Wanted, state: RolloutState | None) -> ServiceView:
        stable = self.stable()
        assert stable is not None  # noqa: S101 - only called while something serves
        if state is not None and not state.phase.ended:
            return ServiceView(Standing.ROLLING_OUT, stable, wanted.revision, state)
        if wanted.revision.name == stable.name:
            return ServiceView(Standing.SERVING, stable, wanted.revision, state)
        names = self._ports.store.names()
        tried = self._ports.store.state(wanted.rollout) if wanted.rollout in names else None
        reason = f"{tried.phase}: {tried.reason}" if tried else "waits for its rollout"
        return ServiceView(Standing.WANTED_NOT_SERVING, stable, wanted.revision, tried or state, reason)


def stable_revision(store: RolloutStore, first: FirstFile) -> Revision | None:
    """The revision in service: that of the last promoted rollout, else the first; None before that."""
    last = _last_promoted(_begun(store))
    return store.spec(last.name).candidate if last else first.get()


def _begun(store: RolloutStore) -> list[RolloutState]:
    return [one for one in map(store.state, store.names()) if one.started_at is not None]


def _last_promoted(begun: list[RolloutState]) -> RolloutState | None:
    return next((one for one in reversed(begun) if one.phase is Phase.PROMOTED), None)


def _superseded(intents: Intents, by: str) -> Intents:
    return intents.model_copy(update={"superseded_by": by})


def _alone(stable: Revision, wanted: Revision, rollout: str) -> Route:
    """All traffic to one revision."""
    return Route(service=wanted.service, rollout=rollout, number=0, stable=stable.name, seed=0, hold_back=0)
