"""The kinds of column that a contract speaks of.

Invariant: a kind says what values mean, never how they are stored.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr


class Kind(StrEnum):
    """What a column holds, in words that do not depend on how it is stored.

    `whole` are numbers without a fraction, whether stored as integers or (with nulls) as floats.
    """

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    TIME = "time"
    FLAG = "flag"


NUMERIC = frozenset({Kind.WHOLE, Kind.NUMBER})
ORDERED = NUMERIC | {Kind.TIME}
ANY_KIND = frozenset(Kind)


def scalar_kind(value: Scalar) -> frozenset[Kind]:
    """The kinds of column in which a value can occur."""
    if isinstance(value, bool):
        return frozenset({Kind.FLAG})
    return frozenset({Kind.TEXT}) if isinstance(value, str) else NUMERIC
