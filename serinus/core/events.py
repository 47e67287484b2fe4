"""The rows of the event log: what was shown, with which scores, and what happened then.

Invariant: every row has an id by which duplicates fold, and holds plain values only, so that any log (files, Redis)
can carry it. Times are epoch seconds, UTC: `at` is when it was written down, `as_of` when it happened in the world that
the features describe; they differ only in a replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stream(StrEnum):
    """The three kinds of rows; each has a row type below."""

    EXPOSURES = "exposures"
    SCORES = "scores"
    OUTCOMES = "outcomes"


class BucketCheck(StrEnum):
    """What the predictor found of the caller's bucket (D3). Only `ok` is ever judged."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Exposure:
    """One answered request. `id` is `exposure_id(request_id, revision)`, so a retried request counts once an arm.

    `arm` is the arm that the caller forced, else empty; `items` how many were ranked (1 for kind scoring); `defaulted`
    how many of `lookups` were missing, expired, unfit or unavailable, values that the caller left out among them;
    `error` the type of a failure, else empty.
    `covariates` are the card's, in order: what was stored of the entity before this request, so no arm can move them.
    `sequence` counts the rows of a `writer` from 0 without a gap, so what a kill lost can be counted.
    """

    id: str
    request_id: str
    service: str
    revision: str
    version: str
    arm: str
    entity: str
    unit: str
    bucket: int
    bucket_check: str
    at: float
    as_of: float
    items: int
    cold_start: bool
    unknown_items: int
    lookups: int
    defaulted: int
    latency_ms: float
    error: str
    covariates: tuple[float, ...]
    writer: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The side table: items in the order shown, with calibrated probabilities; `id` is the exposure's.

    Kind scoring has one probability and one item, the empty string.
    """

    id: str
    request_id: str
    items: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something a unit did: `name` says what, `item` to what (or empty), `value` what it was worth.

    With a request id it belongs to that request; without one, to the unit's requests before it.
    """

    id: str
    name: str
    request_id: str
    unit: str
    item: str
    value: float
    as_of: float
    at: float


Event = Exposure | Scores | Outcome
ROW_TYPES: dict[Stream, type[Exposure] | type[Scores] | type[Outcome]] = {
    Stream.EXPOSURES: Exposure,
    Stream.SCORES: Scores,
    Stream.OUTCOMES: Outcome,
}


def exposure_id(request_id: str, revision: str) -> str:
    """Both arms of a shadow answer the same request; each has an exposure of its own."""
    return f"{request_id}@{revision}"
