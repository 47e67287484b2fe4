"""What a request would see of an entity and of items: the values behind `serinus features lookup`.

Invariant: read by the same reader as the predictor's and from the store that a predictor of this profile would read,
with the status and the event time of every value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serinus.core.errors import UsageError
from serinus.features.batch import Column, Ragged
from serinus.features.keys import IdKinds, fault_of
from serinus.features.online import Lookup, OnlineReader
from serinus.features.service import ServiceInfo
from serinus.features.stores import store_of
from serinus.wiring.adapters import feature_store, online_address
from serinus.wiring.project import Project

# A person waits longer than a request may.
PATIENCE_SECONDS = 5.0
# A row that is unfit was read: what of it a model cannot take is missing.
_READ = ("found", "unfit")


@dataclass(frozen=True)
class FoundValue:
    """One feature of one row; `value` is None unless `status` is found or unfit."""

    view: str
    feature: str
    value: Any
    status: str
    time: str | None


@dataclass(frozen=True)
class Found:
    """One entity or item; unknown when no view has a row of it."""

    kind: str
    id: str
    known: bool
    values: tuple[FoundValue, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """An entity and items of a problem, as of a time (the snapshot's own when None).

    `online` is the store's address, a path or one of Redis; when empty that of the profile or of Feast's configuration.
    """

    problem: str
    entity: str
    items: tuple[str, ...] = ()
    as_of: datetime | None = None
    online: str = ""


def look_up(project: Project, asked: Asked) -> list[Found]:
    """The entity, then the items.

    Raises `UsageError` for what is no id, `NotFound` for features that were never built, `Unavailable`.
    """
    card = project.problem(asked.problem).card
    service = feature_store(project, asked.problem).service_description(card.data.feature_service)
    kinds = IdKinds.of(service.model_dump(), card.framing.entity, "", card.framing.item)
    _require_ids(kinds, asked)
    address = asked.online or online_address(project, asked.problem)
    reader = OnlineReader(store_of(address, service.project, timeout=PATIENCE_SECONDS), service)
    moment = asked.as_of or card.data.snapshot_time
    found = _rows(card.framing.entity, reader.read(card.framing.entity, [asked.entity], moment), service)
    if card.framing.item and asked.items:
        found += _rows(card.framing.item, reader.read(card.framing.item, asked.items, moment), service)
    return found


def _require_ids(kinds: IdKinds, asked: Asked) -> None:
    for kind, given in ((kinds.entity, asked.entity), *((kinds.item, item) for item in asked.items)):
        fault = fault_of(kind, given)
        if fault:
            hint = "the written form of an id: docs/concepts/inputs.md"
            raise UsageError(f"{given!r} is no id to look up", cause=fault, hint=hint)


def _rows(kind: str, lookup: Lookup, service: ServiceInfo) -> list[Found]:
    return [_row(kind, position, lookup, service) for position in range(len(lookup.side))]


def _row(kind: str, position: int, lookup: Lookup, service: ServiceInfo) -> Found:
    values = []
    for view in service.of_entity(kind):
        status, event = lookup.status[view.name][position], lookup.event_times[view.name][position]
        time = None if np.isnan(event) else datetime.fromtimestamp(event, UTC).isoformat(timespec="seconds")
        for feature in view.features:
            stored = _value(lookup.side.columns[f"{view.name}:{feature.name}"], position, feature.type)
            values.append(FoundValue(view.name, feature.name, stored if status in _READ else None, status, time))
    known = any(states[position] != "missing" for states in lookup.status.values())
    return Found(kind, str(lookup.side.ids[position]), known, tuple(values))


def _value(column: Column, position: int, kind: str) -> Any:  # noqa: ANN401 - any feature type
    if isinstance(column, Ragged):
        return [_plain(one) for one in column.values[column.offsets[position] : column.offsets[position + 1]]]
    value = _plain(column[position])
    if kind == "UnixTimestamp" and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return value


def _plain(value: Any) -> Any:  # noqa: ANN401 - numpy scalars become Python's, NaN becomes None
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value
