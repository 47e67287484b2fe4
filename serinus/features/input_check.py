"""Whether the inputs of a model can be computed from what the views declare and the requests carry.

Invariant: inputs without a fault here meet no unknown column, no list where a value is needed, and no missing part when
the matrix is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serinus.core.card import Kind, Problem
from serinus.features.inputs import Cosine, DaysSince, Equals, Given, History, Input, Inputs
from serinus.features.service import ServiceInfo

_NUMBERS = frozenset({"Bool", "Float32", "Float64", "Int32", "Int64", "UnixTimestamp"})
_NEEDS = {"any": (), "count": ("counts",), "share": ("counts",), "rate": ("counts", "over"), "days_since": ("times",)}


@dataclass(frozen=True)
class Columns:
    """The declared columns, `view:feature`, with their Feast types, of either side of a request."""

    entity: dict[str, str]
    item: dict[str, str]

    @classmethod
    def of(cls, service: ServiceInfo, card: Problem) -> Columns:
        """Of the service's views."""
        sides = [
            {f"{view.name}:{one.name}": one.type for view in service.of_entity(side) for one in view.features}
            for side in (card.framing.entity, card.framing.item or "")
        ]
        return cls(*sides)

    def type_of(self, name: str) -> str | None:
        """The Feast type, or None for what no view declares."""
        return self.entity.get(name) or self.item.get(name)


def input_faults(inputs: Inputs, columns: Columns, card: Problem) -> Iterator[str]:
    """One line a fault, by the input's name."""
    names = [one.name for one in inputs]
    yield from (f"input {name}: is declared twice" for name in sorted({n for n in names if names.count(n) > 1}))
    for one in inputs:
        yield from (f"input {one.name}: {fault}" for fault in _of(one, columns, card))


def _of(one: Input, columns: Columns, card: Problem) -> Iterator[str]:
    if isinstance(one, Given):
        if one.of not in card.framing.request.context:
            yield f"reads {one.of}, which framing.request.context of the card does not name"
        return
    if isinstance(one, History):
        yield from _of_history(one, columns, card)
    for field, wanted in _reads(one):
        name = getattr(one, field)
        kind = columns.type_of(name)
        if kind is None:
            yield f"reads {name}, which no view of the feature service has"
        elif not _fits(kind, wanted):
            yield f"reads {name} as {wanted}, and it is {kind}"


def _of_history(one: History, columns: Columns, card: Problem) -> Iterator[str]:
    if card.framing.kind is not Kind.RANKING:
        yield "is a history, which needs items; kind scoring has none"
    yield from (f"measure {one.measure} needs {field}" for field in _NEEDS[one.measure] if getattr(one, field) is None)
    own = [name for name in (one.keys, one.counts, one.times) if name in columns.item]
    yield from (f"reads {name} as a history of the entity, and it is the item's" for name in own)


def _reads(one: Input) -> Iterator[tuple[str, str]]:
    """The fields of an input that name columns, each with what it must be."""
    if isinstance(one, History):
        wanted = {"keys": "a list", "counts": "a list", "times": "a list", "over": "a number", "match": "a value"}
    elif isinstance(one, Cosine):
        wanted = {"left": "a list", "right": "a list"}
    elif isinstance(one, Equals):
        wanted = {"of": "text"}
    elif isinstance(one, DaysSince):
        wanted = {"of": "a time"}
    else:
        wanted = {"of": "a number", "over": "a number"}
    for field, what in wanted.items():
        if ":" in str(getattr(one, field, None) or ""):
            yield field, what


def _fits(kind: str, wanted: str) -> bool:
    listed = kind.startswith("Array(")
    if wanted == "a list":
        return listed
    if listed:
        return False
    return {"a number": kind in _NUMBERS, "text": kind == "String", "a time": kind == "UnixTimestamp"}.get(wanted, True)
