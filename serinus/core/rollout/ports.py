"""The four small ports of a rollout: arms, the division of traffic, evidence, and what is remembered.

Invariant: every call may be repeated; adapters know nothing of steps, statistics or verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serinus.core.rollout.evidence import ArmCondition
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.moments import Cell
from serinus.core.stats.reading import Look


class Arms(Protocol):
    """Runs revisions; one that is lost is brought back by the next `ensure`."""

    def ensure(self, revision: Revision) -> None:
        """Starts the servers of a revision unless they run; does not wait for them."""

    def condition(self, revision: Revision) -> ArmCondition:
        """How a revision is that was ensured."""

    def remove(self, revision: Revision) -> None:
        """Stops the servers of a revision once they have answered what they took; harmless when there are none."""


@dataclass(frozen=True)
class InForce:
    """A route is followed by every new request, seen so at `at` (epoch s)."""

    at: float


@dataclass(frozen=True)
class Pending:
    """A route is not in force yet, and why; some requests may follow it already."""

    why: str


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


class RolloutStore(Protocol):
    """Remembers the rollouts of one service: what was asked, what people want, and what is."""

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
