"""What a rollout is asked to do: frozen when it is made, but for the intents.

Invariant: seed, policy and revisions never change while a rollout lives; a person steers by intents alone (D5). A
policy that could not be followed to its end is refused before anything starts.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, model_validator

from serinus.core.card.operation import Rollout, Step
from serinus.core.kpi import Kpi
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.words import StepKind


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Revision(_Part):
    """An arm (D1): a version of a model as one service serves it.

    `template` is the way where that is not the usual one: an entry point, an image.
    """

    name: str
    service: ServiceRef
    model: ModelRef
    storage_uri: str
    template: str = ""


class Said(_Part):
    """Who asked for something, and why."""

    by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return (f" by {self.by}" if self.by else "") + (f": {self.reason}" if self.reason else "")


class Intents(_Part):
    """What a person or a newer revision asks of a rollout. `approved` holds indexes of approval steps.

    `promote_full`: all traffic as soon as the candidate is ready, judged by nothing; `undo`, of the last promotion: all
    of it back to the revision before. `said`: who asked for each of these fields and why, of an approval by its index.
    """

    paused: bool = False
    abort: bool = False
    promote_full: bool = False
    undo: bool = False
    approved: tuple[int, ...] = ()
    superseded_by: str = ""
    said: dict[str, Said] = {}

    def who(self, field: str) -> str:
        """Who asked for it and why, as the end of a sentence; nothing where nobody said."""
        return str(self.said.get(field, ""))


class RolloutSpec(_Part):
    """One try of one candidate against the stable revision of a service.

    `independent_outcomes`: outcomes do not depend on what was shown (a replay of a log), so shadow judges KPIs, too.
    `ready_within`: how long the candidate may take to become ready, at the start or when it was lost. `at_once`: it
    served lately, so it gets all traffic once it is ready.
    """

    name: str
    service: ServiceRef
    stable: Revision
    candidate: Revision
    retry: int = 0
    seed: int
    policy: Rollout
    kpis: tuple[Kpi, ...]
    independent_outcomes: bool = False
    at_once: bool = False
    ready_within: timedelta = timedelta(minutes=2)
    created_at: float

    @model_validator(mode="after")
    def _can_be_followed(self) -> RolloutSpec:
        shadow = any(step.shadow is not None for step in self.policy.steps)
        if shadow and not any(judged_in_shadow(self, kpi) for kpi in self.kpis):
            raise ValueError("no KPI can be judged in shadow, so that step would never end: leave it out")
        return self


def kind_of(step: Step) -> StepKind:
    """What a step of the policy does."""
    return next(kind for kind in StepKind if getattr(step, kind) is not None)


def judged_in_shadow(spec: RolloutSpec, kpi: Kpi) -> bool:
    """Whether the shadow of this rollout judges it."""
    return kpi.judged_in_shadow(independent_outcomes=spec.independent_outcomes)
