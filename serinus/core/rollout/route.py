"""The route of a service as a rollout wants it: which revision answers which bucket, and what is mirrored (D2, D9).

Invariant: at most two revisions; a bucket's arm follows from seed and weight alone.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from serinus.core.assignment import BUCKETS, PER_PERCENT, places
from serinus.core.names import ServiceRef
from serinus.core.words import Arm


class RouteMode(StrEnum):
    """`plain` divides units between the arms; `shadow` sends all to the stable arm and mirrors some requests."""

    PLAIN = "plain"
    SHADOW = "shadow"


class Route(BaseModel):
    """`number` counts the routes of one rollout from 1, so that an older one can be told from a newer one.

    `weight` in per cent of the buckets, `share` (0 to 1) of them mirrored. No `canary`: the stable revision is alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: ServiceRef
    rollout: str
    number: int
    stable: str
    canary: str = ""
    mode: RouteMode = RouteMode.PLAIN
    weight: int = 0
    share: float = 0.0
    seed: int
    hold_back: int

    def assigned(self, bucket: int) -> Arm:
        """The arm whose answer a unit of this bucket gets."""
        return Arm.CANARY if places(self.seed)[bucket] < self.weight * PER_PERCENT else Arm.STABLE

    def mirrored(self, bucket: int) -> bool:
        """Whether the requests of this bucket are sent to the canary, too, which answers nobody."""
        return self.mode is RouteMode.SHADOW and places(self.seed)[bucket] < round(self.share * BUCKETS)
