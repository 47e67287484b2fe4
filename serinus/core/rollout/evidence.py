"""What a tick knows of the world: readings in order, how the candidate is, whether the arms still get their share.

Invariant: evidence is given in the order of looks, the crossing of the sample-ratio test included, so that any grouping
into ticks tells the same story.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from serinus.core.stats.reading import Reading


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Readiness(StrEnum):
    """Of an arm. `failed`: it said that it cannot start; what is merely not ready, or was lost, is `starting`."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class ArmCondition(_Part):
    """How an arm is, `since` (epoch s) when it has been so without a break, and why."""

    readiness: Readiness
    since: float
    reason: str = ""


class SampleRatio(_Part):
    """The sequential test of the shares in which units reached the arms.

    `crossed_after`: how many looks of the rollout had closed when it crossed; None while it has not. `at` (epoch s) is
    when that was; `p_value` is the smallest so far.
    """

    crossed_after: int | None = None
    at: float = 0.0
    p_value: float = 1.0


class Evidence(_Part):
    """All that one tick decides from.

    `absent`: why there is none; then nothing is known but the candidate and the turn, and all else that a tick hears is
    obeyed. `readings`: those after the last consumed look. What is missing between two of them is still to come, and
    what is behind the gap waits for it. `unjudged`: requests that are never judged (D3), by reason; `closed`: exposures
    closed so far; both are only shown. `turn`: no other rollout of the service lives, so this one may begin.
    """

    candidate: ArmCondition
    absent: str = ""
    readings: tuple[Reading, ...] = ()
    ratio: SampleRatio = SampleRatio()
    unjudged: dict[str, int] = {}
    closed: int = 0
    turn: bool = True
