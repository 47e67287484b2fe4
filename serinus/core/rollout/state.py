"""All that is remembered of a rollout: a value that is written as JSON before anything is done (D5).

Invariant: what the next tick does follows from this value, the spec and new evidence. A crossing that is in `crossed`
stays there; nothing is ever taken from the log.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.upgrade import upgraded
from serinus.core.stats.reading import Reading
from serinus.core.words import Arm, Phase, Stage, StepKind, Verdict

Boundary = Literal["harm", "non_inferior", "late_harm"]
EntryKind = Literal["look", "crossing", "step", "intent", "freeze", "end"]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", serialize_by_alias=True, populate_by_name=True
    )


class Act(StrEnum):
    """What a written state asks of the world, in the order in which it is tried."""

    START = "start"
    REMEMBER = "remember"
    ROUTE = "route"
    REMOVE = "remove"


class Crossing(_Part):
    """A boundary that a KPI's test crossed, in which stage and at which look. `late_harm`: after the promotion."""

    kpi: str
    stage: Stage
    boundary: Boundary
    sequence: int
    at: float


class Entry(_Part):
    """One line of the decision log: what was seen, against what, and what it decided.

    `at` (epoch s) is that of the look's last counted exposure; of a decision without a look, when it was taken. `look`
    is the KPI's own number of it. `times`: how many looks in a row said the same, the latest of which is shown, and
    `since` when the first of them was.
    """

    at: float
    step: int
    event: EntryKind
    verdict: Verdict
    reason: str
    look: int | None = None
    metric: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    boundary: float | None = None
    units: dict[Arm, int] = {}
    times: int = 1
    since: float | None = None

    def repeats(self, other: Entry) -> bool:
        """Whether this says of a new look what `other` said of the one before. Anything but a plain look never does."""
        mine, theirs = ((one.event, one.verdict, one.reason, one.step) for one in (self, other))
        return self.event == "look" and mine == theirs


class Closed(_Part):
    """What one KPI has closed in a step, both arms: distinct units, judged requests, and between which exposures: from
    the first that was judged to the last that a look has counted (epoch s)."""

    units: int
    requests: int
    first_at: float
    last_at: float


_NOTHING = Closed(units=0, requests=0, first_at=float("inf"), last_at=float("-inf"))


class StepRecord(_Part):
    """A step that was entered, when, and what was closed of it by KPI. `weight` and `share`: the traffic during it.

    Decided at `entered_at`, it begins at `in_force_at`, when its route is in force; None while it is not.
    """

    kind: StepKind
    weight: int
    share: float
    entered_at: float
    in_force_at: float | None = None
    left_at: float | None = None
    closed: dict[str, Closed] = {}

    @property
    def units(self) -> int:
        """Distinct units closed so far, by the KPI that closes first."""
        return max((one.units for one in self.closed.values()), default=0)

    @property
    def requests(self) -> int:
        """Judged requests closed so far, by the KPI that closes first."""
        return max((one.requests for one in self.closed.values()), default=0)

    @property
    def begun(self) -> bool:
        """Whether its route was ever in force. What was closed of it is a witness of that, too."""
        return self.in_force_at is not None or bool(self.closed)

    @property
    def first_at(self) -> float:
        """The first judged exposure of this step (epoch s): minimum durations run from it. Infinite before a look."""
        return min((one.first_at for one in self.closed.values()), default=float("inf"))


class Condition(_Part):
    """A fact shown beside the phase: whether it holds, since when (epoch s) and why."""

    name: Literal["CandidateReady", "EvidenceFresh", "SampleRatioMatched"]
    holds: bool
    since: float
    reason: str = ""


class RolloutState(_Part):
    """`step` is the index of the step it is in, -1 before the first. `looks` is the last consumed sequence number.

    `readings`: the latest that could decide, by stage and KPI; `held_back`: the latest since the promotion. `enough`: a
    goal or guardrail has had enough data at least once. `frozen`: the sample-ratio test has crossed. `decided_by` and
    `decided_in`: the KPI that crossed first and where; without a KPI the stage in which it ended. `intents` are those
    heard last. `pending`: what is still to be done to the world, each for itself, and why it is not done yet ("" before
    the first try). `in_force_at`: since when `route` is in force (epoch s), None while that is pending. `unsupported`:
    why the division of traffic that is asked for can never be made.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    phase: Phase = Phase.QUEUED
    step: int = -1
    steps: tuple[StepRecord, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    looks: int = 0
    crossed: tuple[Crossing, ...] = ()
    log: tuple[Entry, ...] = ()
    readings: dict[Stage, dict[str, Reading]] = {}
    held_back: dict[str, Reading] = {}
    unjudged: dict[str, int] = {}
    enough: bool = False
    frozen: bool = False
    decided_by: str = ""
    decided_in: Stage | None = None
    reason: str = ""
    intents: Intents = Intents()
    conditions: tuple[Condition, ...] = ()
    route: Route | None = None
    in_force_at: float | None = None
    unsupported: str = ""
    pending: dict[Act, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_release(cls, raw: Any) -> Any:  # noqa: ANN401 - whatever was read
        return upgraded(raw) if isinstance(raw, dict) and {"written", "acted"} <= raw.keys() else raw

    @classmethod
    def first(cls, spec: RolloutSpec) -> RolloutState:
        """Of a rollout that was just made."""
        return cls(name=spec.name)

    @property
    def step_entered_at(self) -> float | None:
        """When the present step was entered (epoch s)."""
        return self.steps[-1].entered_at if self.steps else None

    @property
    def history(self) -> tuple[Entry, ...]:
        """The log by time. A look may be read after a decision that came later than its exposures."""
        return tuple(sorted(self.log, key=lambda one: one.at))

    def closed(self, step: int, goals: Collection[str]) -> Closed:
        """What the KPI that decided has closed in a step: the one number that is told of the step's units.

        While none has decided, the goal that closed most; in a step that no goal closes, the KPI that closed most.
        """
        found = self.steps[step].closed
        names = next((one for one in ({self.decided_by}, set(goals), set(found)) if one & found.keys()), set())
        each = [found[name] for name in names & found.keys()]
        return max(each, key=lambda one: (one.units, one.requests), default=_NOTHING)

    def has_crossed(self, kpi: str, stage: Stage, boundary: Boundary) -> bool:
        """Whether that boundary was ever crossed."""
        return any((one.kpi, one.stage, one.boundary) == (kpi, stage, boundary) for one in self.crossed)

    def known(self, condition: Condition) -> RolloutState:
        """With a condition in the place of what was known of it; `since` stays while it is as it was."""
        before = next((one for one in self.conditions if one.name == condition.name), None)
        if before is not None and before.holds is condition.holds:
            condition = condition.model_copy(update={"since": before.since})
        return self.changed(conditions=(*(one for one in self.conditions if one is not before), condition))

    def changed(self, **changes: Any) -> RolloutState:  # noqa: ANN401 - of any field
        """The same but for `changes`, which must be fields of the right types."""
        return self.model_copy(update=changes)

    def logged(self, entry: Entry) -> RolloutState:
        """With one more entry, or with the last one telling of one more look that said the same."""
        last = self.log[-1] if self.log else None
        if last is None or not entry.repeats(last):
            return self.changed(log=(*self.log, entry))
        since = last.at if last.since is None else last.since
        folded = entry.model_copy(update={"times": last.times + 1, "since": since})
        return self.changed(log=(*self.log[:-1], folded))
