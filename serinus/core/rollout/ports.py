"""The small ports of a service and its rollouts: arms, the division of traffic, evidence, and what is remembered.

Invariant: every call may be repeated; adapters know nothing of steps, statistics or verdicts. What a tick knows of the
service it read at once, with a token; what it writes and does holds only while that token does (DESIGN D5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from serinus.core.rollout.evidence import ArmCondition
from serinus.core.rollout.memory import ServiceMemory, Wanted
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.moments import Cell
from serinus.core.stats.reading import Look


@dataclass(frozen=True)
class Pending:
    """What was asked for is not so yet, and why. Of a route: some requests may follow it already."""

    why: str


@dataclass(frozen=True)
class Gone:
    """An arm has no server any more."""


Removed = Gone | Pending


class Arms(Protocol):
    """Runs revisions; one that is lost is brought back by the next `ensure`."""

    def ensure(self, revision: Revision) -> None:
        """Starts the servers of a revision unless they run; does not wait for them."""

    def condition(self, revision: Revision) -> ArmCondition:
        """How a revision is that was ensured."""

    def remove(self, revision: Revision) -> Removed:
        """Has the servers of a revision end once they have answered what they took, and says at once how that is.

        Harmless when there are none; asked again, it answers anew.
        """


@dataclass(frozen=True)
class InForce:
    """A route is followed by every new request, seen so at `at` (epoch s)."""

    at: float


@dataclass(frozen=True)
class Unsupported:
    """A route that this splitter can never bring into force, and why."""

    why: str


Applied = InForce | Pending | Unsupported


class Splitter(Protocol):
    """Divides the traffic of one service."""

    def apply(self, route: Route) -> Applied:
        """Asks for this route and says at once how it is; asked for again, it changes nothing and answers anew."""


@dataclass(frozen=True)
class FirstSeen:
    """A unit's first request under weights: on which step and arm, and when it was answered (epoch s).

    `looks`: how many looks of the rollout had closed before it did.
    """

    cell: Cell
    at: float
    looks: int


@dataclass(frozen=True)
class RolloutEvidence:
    """Looks in order, units as they were first seen, requests not judged by reason, and how many have closed at all."""

    looks: tuple[Look, ...]
    units: tuple[FirstSeen, ...]
    unjudged: Mapping[str, int]
    closed: int


class EvidenceSource(Protocol):
    """Reads the event log of one service."""

    def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
        """Everything that has closed so far; what was read once is read the same again. The steps come from `state`."""


@dataclass(frozen=True)
class Stored:
    """A rollout as it was read: what was asked, what is, and what people want."""

    spec: RolloutSpec
    state: RolloutState
    intents: Intents


@dataclass(frozen=True)
class Change:
    """What one write changes of a service, in this order: a rollout that is made, a state, intents, the memory.

    Killed in between, the rest is found out again. `intents` are those that the service gives: by name.
    """

    made: RolloutSpec | None = None
    state: RolloutState | None = None
    intents: tuple[str, Intents] | None = None
    memory: ServiceMemory | None = None


@dataclass(frozen=True)
class Snapshot:
    """All that is known of a service at one moment; `token` is another one as soon as any of it is.

    `rollouts` in the order they were made.
    """

    token: str
    memory: ServiceMemory
    wanted: Wanted
    rollouts: tuple[Stored, ...] = ()

    def rollout(self, name: str) -> Stored | None:
        """The rollout of that name, if there is one."""
        return next((one for one in self.rollouts if one.spec.name == name), None)

    def after(self, change: Change, token: str) -> Snapshot:
        """What it is once `change` is written."""
        rollouts = self.rollouts
        if change.made is not None:
            rollouts += (Stored(change.made, RolloutState.first(change.made), Intents()),)
        state, intents = change.state, change.intents
        if state is not None:
            rollouts = tuple(replace(one, state=state) if one.spec.name == state.name else one for one in rollouts)
        if intents is not None:
            rollouts = tuple(
                replace(one, intents=intents[1]) if one.spec.name == intents[0] else one for one in rollouts
            )
        return replace(self, token=token, memory=change.memory or self.memory, rollouts=rollouts)


class ServiceStore(Protocol):
    """Remembers one service and its rollouts."""

    def load(self) -> Snapshot:
        """All of it at one moment. Raises `NotFound` while nothing is wanted."""

    def save(self, change: Change, token: str) -> str:
        """Writes a change and gives the token that holds from then on. Raises `Conflict` when `token` does not."""

    def fence(self, token: str) -> AbstractContextManager[None]:
        """Nobody else changes the service while the block runs. Raises `Conflict` when `token` does not hold."""


class RolloutStore(Protocol):
    """The rollouts of one service as people see them: what was asked, what is, and what they want themselves."""

    def create(self, spec: RolloutSpec) -> None:
        """Adds a rollout. Raises `Conflict` when its name is taken."""

    def names(self) -> list[str]:
        """Of all rollouts, in the order they were made."""

    def spec(self, name: str) -> RolloutSpec:
        """Raises `NotFound`."""

    def state(self, name: str) -> RolloutState:
        """As it was saved last, or its first. Raises `NotFound`."""

    def save(self, state: RolloutState, over: RolloutState) -> None:
        """Replaces `over`. Raises `Conflict` when that is not what is there."""

    def intents(self, name: str) -> Intents:
        """What people ask for now."""

    def intend(self, name: str, change: Callable[[Intents], Intents]) -> Intents:
        """Changes that. Raises `NotFound`."""
