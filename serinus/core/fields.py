"""The types of the fields of cards, contracts and KPIs: durations, names, shares, and their common base.

Invariant: a document made of them has no unknown key and never changes after loading; what it says in JSON reads back
as the same value.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Kind(StrEnum):
    """`ranking` orders many items for one entity; `scoring` gives one entity one probability."""

    RANKING = "ranking"
    SCORING = "scoring"


class CardPart(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _duration(value: object) -> object:
    """`5s`, `90m`, `12h`, `30d` as a timedelta; ISO 8601 (what JSON has) and all else is left for pydantic to judge."""
    if isinstance(value, str) and value[:-1].isdigit() and value[-1:] in _UNITS:
        return timedelta(**{_UNITS[value[-1]]: int(value[:-1])})
    if isinstance(value, str) and not value.startswith("P"):
        raise ValueError("write a duration as a whole number and a unit: 5s, 30m, 12h, 7d")
    return value


def _text(value: timedelta) -> str:
    """The inverse of `_duration`, in the largest unit that leaves nothing over. A card knows no less than a second."""
    if not value:
        return "0m"
    for letter, unit in reversed(_UNITS.items()):
        count, rest = divmod(value, timedelta(**{unit: 1}))
        if not rest:
            return f"{count}{letter}"
    raise ValueError(f"a duration of a card is whole seconds, not {value}")


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(_text, when_used="json")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Feature = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Direction = Literal["higher", "lower"]
