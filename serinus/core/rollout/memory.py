"""What a service remembers of itself: who serves, by which route, what was tried, and how often (DESIGN D4).

Invariant: a value of its own, written before a promotion counts as done. Rollouts are history beside it: deleting one
that has ended moves no traffic, and what was tried stays tried. It changes by the functions of this module alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase

# So many revisions that served, and refusals, are kept.
KEPT = 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, populate_by_name=True)


@dataclass(frozen=True)
class Wanted:
    """The revision that is wanted, the one that came first, and how often a refused one is to be tried again."""

    revision: Revision
    first: Revision
    retry: int = 0

    @property
    def mark(self) -> str:
        """The same as long as nothing else is wanted."""
        return f"{self.revision.name}#{self.retry}"


class Live(_Part):
    """The rollout that lives, and what it would bring: known even when somebody deletes it."""

    rollout: str
    candidate: Revision


class Decided(_Part):
    """How the stable revision came to serve: by which rollout and why, and which one it took over from.

    `undone`: it is the one from before that rollout again.
    """

    rollout: str
    reason: str
    before: Revision | None = None
    undone: bool = False


class Refused(_Part):
    """A revision that was tried and does not serve: how its rollout ended, why, and when (epoch s)."""

    revision: str
    rollout: str
    phase: Phase
    reason: str
    at: float


class ServiceMemory(_Part):
    """`stable` serves; `previous` did before it, newest first. `spare`: arms beside it that may still run.

    `asked` is the wish that was seen last, `change` how many different ones were, and `tried` the number of the one
    that had its try. `refused`: the latest refusal of each revision, oldest first; `tries` counts by revision.
    `route` is the last one known to be in force; `rest` the one that holds while no rollout lives.
    """

    schema_: int = Field(default=1, alias="schema")
    stable: Revision | None = None
    previous: tuple[Revision, ...] = ()
    spare: tuple[Revision, ...] = ()
    decided: Decided | None = None
    live: Live | None = None
    asked: str = ""
    change: int = 0
    tried: int = 0
    tries: dict[str, int] = {}
    refused: tuple[Refused, ...] = ()
    route: Route | None = None
    rest: Route | None = None

    def changed(self, **changes: Any) -> ServiceMemory:  # noqa: ANN401 - of any field
        """The same but for `changes`, which must be fields of the right types."""
        return self.model_copy(update=changes)

    def refusal(self, revision: Revision) -> Refused | None:
        """Why a revision does not serve, when it was tried."""
        return next((one for one in self.refused if one.revision == revision.name), None)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """All that are known here, the stable one first."""
        live = (self.live.candidate,) if self.live else ()
        return tuple(one for one in (self.stable, *self.previous, *self.spare, *live) if one is not None)


def counted(memory: ServiceMemory, wanted: Wanted) -> ServiceMemory:
    """With the wish: another revision or another try than the one seen last is a change (D4)."""
    if memory.asked == wanted.mark:
        return memory
    return memory.changed(asked=wanted.mark, change=memory.change + 1)


def is_new(memory: ServiceMemory, wanted: Wanted) -> bool:
    """Whether what is wanted neither serves nor had its try."""
    memory = counted(memory, wanted)
    served = memory.stable is not None and memory.stable.name == wanted.revision.name
    return memory.change > memory.tried and not served


def rollout_name(memory: ServiceMemory, wanted: Wanted) -> str:
    """Of the rollout that brings, or brought, what is wanted."""
    memory = counted(memory, wanted)
    if memory.live is not None and memory.live.candidate == wanted.revision and memory.change == memory.tried:
        return memory.live.rollout
    return f"{wanted.revision.name}-{memory.change}"


def first_served(memory: ServiceMemory, revision: Revision, route: Route) -> ServiceMemory:
    """With the first revision in service, which needs no rollout."""
    return memory.changed(stable=revision, route=route, rest=route)


def began(memory: ServiceMemory, spec: RolloutSpec) -> ServiceMemory:
    """With a rollout that was just made for the latest change."""
    tries = {**memory.tries, spec.candidate.name: memory.tries.get(spec.candidate.name, 0) + 1}
    live = Live(rollout=spec.name, candidate=spec.candidate)
    return memory.changed(live=live, tried=memory.change, tries=tries, spare=(*memory.spare, spec.candidate))


def brought(memory: ServiceMemory, wanted: Wanted, live: RolloutSpec) -> ServiceMemory:
    """With a wish that was another one meanwhile, and is what the living rollout brings again: that is its try."""
    mine = Wanted(live.candidate, wanted.first, live.retry)
    return memory.changed(tried=memory.change) if mine.mark == wanted.mark else memory


def remembered(memory: ServiceMemory, spec: RolloutSpec, state: RolloutState) -> ServiceMemory:
    """With the end of a rollout: who serves from now on, or what was refused and why. Again, it changes nothing."""
    if memory.live is None or memory.live.rollout != spec.name:
        return memory
    memory = memory.changed(live=None, rest=state.route or memory.rest)
    if state.phase is Phase.PROMOTED:
        return _serves(memory, spec.candidate, Decided(rollout=spec.name, reason=state.reason, before=spec.stable))
    return refused(memory, spec.candidate, spec.name, state.phase, state.reason, state.ended_at or 0.0)


def refused(
    memory: ServiceMemory, revision: Revision, rollout: str, phase: Phase, reason: str, at: float
) -> ServiceMemory:
    """With a revision that had its try and does not serve."""
    mine = Refused(revision=revision.name, rollout=rollout, phase=phase, reason=reason, at=at)
    others = tuple(one for one in memory.refused if one.revision != revision.name)
    return memory.changed(refused=(*others, mine)[-KEPT:])


def undone(memory: ServiceMemory, wanted: Wanted, why: str, route: Route, at: float) -> ServiceMemory:
    """With the last promotion taken back, and `route` leading to the revision before alone.

    What is wanted counts as refused until it changes, and what was taken back as never having served: tried again, it
    is judged. Nothing that others own is written.
    """
    decided, gone = memory.decided, memory.stable
    assert decided is not None and decided.before is not None and gone is not None  # noqa: S101, PT018
    reason = f"undone{why}"
    again = Decided(rollout=decided.rollout, reason=reason, before=gone, undone=True)
    memory = _serves(memory, decided.before, again).changed(rest=route, tried=memory.change)
    memory = memory.changed(previous=tuple(one for one in memory.previous if one.name != gone.name))
    for one in {gone.name: gone, wanted.revision.name: wanted.revision}.values():
        if one.name != decided.before.name:
            memory = refused(memory, one, decided.rollout, Phase.ABORTED, reason, at)
    return memory


def recalled(first: Revision, rollouts: Sequence[tuple[RolloutSpec, RolloutState]], wanted: Wanted) -> ServiceMemory:
    """What a release before this one would have remembered: it knew the first revision, and guessed from the rollouts.

    What is wanted by then had its try if there was one, so nothing begins by remembering.
    """
    memory = ServiceMemory(stable=first, asked=wanted.mark, change=len(rollouts) + 1)
    for spec, state in rollouts:
        if state.phase.ended:
            memory = remembered(began(memory, spec), spec, state).changed(tried=0)
    same = [(spec.candidate.name, spec.retry) for spec, _ in rollouts]
    tried = (wanted.revision.name, wanted.retry) in same
    return memory.changed(tried=memory.change if tried else 0)


def _serves(memory: ServiceMemory, revision: Revision, decided: Decided) -> ServiceMemory:
    """The one before it stays at hand: for the hold-back, and as a way back."""
    before = tuple(one for one in (memory.stable, *memory.previous) if one is not None and one.name != revision.name)
    spare = tuple({one.name: one for one in (*memory.spare, *before[:1]) if one.name != revision.name}.values())
    return memory.changed(stable=revision, previous=before[:KEPT], spare=spare, decided=decided)
