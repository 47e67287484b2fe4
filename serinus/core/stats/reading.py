"""What goes into a test and what comes out: increments of evidence at a look, and the reading of it.

Invariant: looks lie on a fixed grid of closed units and are numbered in order of closing, so any grouping of looks into
ticks gives the same readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from serinus.core.stats.moments import Moments
from serinus.core.words import Arm, Stage

Role = Literal["goal", "guardrail", "report"]


@dataclass(frozen=True)
class Counts:
    """Incidents and requests of one increment, by arm: what the count test takes. Both arms, one step.

    `incidents`: 10-second windows of one revision that had at least one bad request (a burst is one incident), or
    single bad requests where the KPI says so. `requests`: judged requests, good and bad.
    """

    step: int
    incidents: Mapping[Arm, int]
    requests: Mapping[Arm, int]


@dataclass(frozen=True)
class Look:
    """One grid point of one KPI: what was closed since its look before.

    `sequence` counts all looks of a rollout from 1. `at` (epoch s): when the last counted exposure was written; `step`
    is that exposure's step, `step_units` how many distinct units this KPI has closed so far in that step, both arms,
    and `step_from` when the first of its judged requests was answered; not known where a test makes a look by hand.
    `increment` holds one or the other kind.
    """

    sequence: int
    kpi: str
    number: int
    stage: Stage
    step: int
    at: float
    step_units: int
    increment: Moments | tuple[Counts, ...]
    step_from: float | None = None


class Reading(BaseModel):
    """One judged look. `low` and `high` bound the effect, each one-sided, at the level of the decision it belongs to.

    `estimate`, `low` and `high` are relative to the stable arm (0.04 = 4 % more); of a calibration, relative to one; of
    a count test, the rate ratio less one. None where nothing can be said yet. `boundary` is the effect beyond which the
    KPI counts as harmed, `margin` the one within which it counts as not inferior. `enough`: burn-in and every other
    guard is met; without it neither `harm` nor `non_inferior` is ever set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    kpi: str
    role: Role
    direction: Literal["higher", "lower"]
    look: int
    stage: Stage
    step: int
    at: float
    step_units: int
    step_from: float | None = None
    units: dict[Arm, int]
    requests: dict[Arm, int]
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    boundary: float
    margin: float | None = None
    enough: bool = False
    harm: bool = False
    non_inferior: bool = False
