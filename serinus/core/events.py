"""The rows of the event log: what was shown, with which scores, what the model was fed, and what happened then.

Invariant: a column is said here and nowhere else, with its type and what readers do with it; files, Redis, reductions
and what comes over the wire follow from it. Every row has an id by which duplicates fold, and holds plain values only,
so that any log can carry it. Times are epoch seconds, UTC: `at` is when it was written down, `as_of` when it happened
in the world that the features describe; they differ only in a replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from serinus.core.names import DEFAULT_NAMESPACE


class Stream(StrEnum):
    """The kinds of rows; each has a row type below."""

    EXPOSURES = "exposures"
    SCORES = "scores"
    DECISIONS = "decisions"
    INPUTS = "inputs"
    OUTCOMES = "outcomes"


class BucketCheck(StrEnum):
    """What the predictor found of the caller's bucket (D3). Only `ok` is ever judged."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    FORCED = "forced"


class Use(Enum):
    """What readers do with a column."""

    # Rows are folded, joined and counted by it: what lacks it is no row. A later column is never one of these.
    IDENTITY = "identity"
    # Stays with the exposure until its last window has closed: KPIs are made of it.
    OPEN = "open"
    # The same, and is a column of KPI rows.
    KPI = "kpi"


@dataclass(frozen=True)
class Before:
    """What a release before this one wrote of a column: another `name`, nothing (`value` holds for those rows), or the
    text without its `prefix`, which ends with a character that such a text never had.
    """

    name: str = ""
    value: str | int | None = None
    prefix: str = ""


Key = Annotated[str, Use.IDENTITY]
Kept = Annotated[str, Use.KPI]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One answered request. `id` is `exposure_id(request_id, revision)`, so a retried request counts once an arm.

    `service` is `<namespace>/<name>`; `route` the stamp of the route by which the request came (D9), as it came, empty
    without one; `forced_arm` the arm that the caller forced, else empty; `items` how many were ranked (1 for kind
    scoring); `defaulted` how many of `lookups` were missing, expired, unfit or unavailable, values that the caller left
    out among them; `error` the type of a failure, else empty.
    `covariates` are the card's, in order: what was stored of the entity before this request, so no arm can move them.
    `sequence` counts the rows of a `writer` from 0 without a gap, so what a kill lost can be counted.
    """

    id: Annotated[Key, Use.KPI]
    request_id: Annotated[Key, Use.KPI]
    service: Annotated[str, Before(prefix=f"{DEFAULT_NAMESPACE}/")]
    revision: Annotated[Key, Use.KPI]
    version: Kept
    route: Annotated[Kept, Before(value="")]
    forced_arm: Annotated[Kept, Before(name="arm")]
    entity: Kept
    unit: Annotated[Key, Use.KPI]
    bucket: Annotated[int, Use.KPI]
    bucket_check: Kept
    at: Annotated[float, Use.IDENTITY, Use.KPI]
    as_of: Annotated[float, Use.IDENTITY, Use.KPI]
    items: int
    cold_start: Annotated[bool, Use.KPI]
    unknown_items: int
    lookups: int
    defaulted: Annotated[int, Use.OPEN, Before(value=0)]
    latency_ms: Annotated[float, Use.KPI]
    error: Kept
    covariates: Annotated[tuple[float, ...], Use.KPI]
    writer: Key
    sequence: Annotated[int, Use.IDENTITY]


@dataclass(frozen=True, slots=True)
class Scores:
    """The side table: items in the order shown, with calibrated probabilities; `id` is the exposure's.

    Kind scoring has one probability and one item, the empty string.
    """

    id: Key
    request_id: Key
    items: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """What was done with an answered request, and why; `id` is the exposure's.

    `order` are the positions of the caller's items, in the order decided; empty for kind scoring. `propensity` is the
    chance that this was decided, given the request. `action`, `reasons` and `rule_ids` are empty where no rule is.
    """

    id: Key
    request_id: Key
    revision: Key
    at: float
    action: str
    reasons: tuple[str, ...]
    rule_ids: tuple[str, ...]
    propensity: float
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the model was fed for one row of a sampled request; `id` is the exposure's.

    `row` are the model's inputs, in the bundle's order; `position` is the row's in the request, `item` its item, empty
    for kind scoring; `context` a JSON object of the values that the request gave. Which requests, and which of their
    rows, follows from the request id: both arms of a shadow have the same.
    """

    id: Key
    request_id: Key
    revision: Key
    at: float
    as_of: Annotated[float, Use.IDENTITY]
    position: int
    item: str
    row: tuple[float, ...]
    context: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something a unit did: `name` says what, `item` to what (or empty), `value` what it was worth.

    With a request id it belongs to that request; without one, to the unit's requests before it.
    """

    id: Key
    name: str
    request_id: Key
    unit: Key
    item: str
    value: float
    as_of: Annotated[float, Use.IDENTITY]
    at: float


Event = Exposure | Scores | Decided | Inputs | Outcome
ROW_TYPES: dict[Stream, type[Exposure] | type[Scores] | type[Decided] | type[Inputs] | type[Outcome]] = {
    Stream.EXPOSURES: Exposure,
    Stream.SCORES: Scores,
    Stream.DECISIONS: Decided,
    Stream.INPUTS: Inputs,
    Stream.OUTCOMES: Outcome,
}
# What stands beside an exposure, under its id. A writer puts it on disk first, so no exposure is there without it.
BESIDE = (Stream.INPUTS, Stream.DECISIONS, Stream.SCORES)


@dataclass(frozen=True)
class Column:
    """A field of a row type: `kind` is str, int, float, bool, or a tuple of any length of one of the first three."""

    name: str
    kind: Any
    uses: frozenset[Use] = frozenset()
    before: Before = Before()


@cache
def columns(stream: Stream, use: Use | None = None) -> tuple[Column, ...]:
    """The columns of a stream, in order; those of one use, where it is asked for."""
    kind = ROW_TYPES[stream]
    hints = get_type_hints(kind, include_extras=True)
    found = tuple(_column(one.name, hints[one.name]) for one in fields(kind))
    return found if use is None else tuple(one for one in found if use in one.uses)


def _column(name: str, hint: Any) -> Column:  # noqa: ANN401 - a type as Python writes it down
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    uses = frozenset(one for one in marks if isinstance(one, Use))
    before = next((one for one in marks if isinstance(one, Before)), Before())
    return Column(name, kind, uses, before)


def row_of(stream: Stream, given: Mapping[str, Any]) -> Event:
    """A row of what somebody sent of it: a column that is not given is empty, 0, false, or without values.

    Raises `ValueError` for what is no column of the stream.
    """
    known = {one.name: one.kind() for one in columns(stream)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{stream.value} have no {', '.join(unknown)}")
    return ROW_TYPES[stream](**(known | dict(given)))


def exposure_id(request_id: str, revision: str) -> str:
    """Both arms of a shadow answer the same request; each has an exposure of its own."""
    return f"{request_id}@{revision}"
