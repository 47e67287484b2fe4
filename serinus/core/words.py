"""The words of a rollout (DESIGN D6), one vocabulary for code, commands, objects and documents."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Arm(StrEnum):
    """What answers: the revision in service, or the new one."""

    STABLE = "stable"
    CANARY = "canary"


class Stage(StrEnum):
    """A series of steps that share one running test: all shadow steps, or all steps with weights."""

    SHADOW = "shadow"
    WEIGHTS = "weights"


def distinct(units: Mapping[Arm, int], stage: Stage) -> int:
    """Units of both arms together; in shadow every unit is on both arms, and counts once."""
    return max(units.values(), default=0) if stage is Stage.SHADOW else sum(units.values())


class StepKind(StrEnum):
    """What a step does."""

    SHADOW = "shadow"
    WEIGHT = "weight"
    BAKE = "bake"
    APPROVAL = "approval"


class Verdict(StrEnum):
    """What a look, or a tick without a new one, decides."""

    CONTINUE = "continue"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    HOLD = "hold"


class Phase(StrEnum):
    """Where a rollout is. The last five are its end states."""

    QUEUED = "queued"
    DEPLOYING = "deploying"
    STEPPING = "stepping"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    UNDECIDED = "undecided"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """True for an end state."""
        return self not in (Phase.QUEUED, Phase.DEPLOYING, Phase.STEPPING)
