"""Model inputs: the declared, serializable transforms that turn a looked-up batch into a matrix.

Each input is data, not code: a problem lists them once, the training set evaluates the list, the bundle carries it, and
the predictor evaluates the very same list. Invariant: every value is finite; what is missing becomes the input's own
`default`. No input can see the candidate list as a whole, because an input is a function of its own row (D11).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

ColumnName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$")]
InputName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: InputName
    default: float = 0.0


class Value(_Input):
    """A stored number as it is; `scale: log` gives sign(x)·ln(1 + |x|)."""

    op: Literal["value"] = "value"
    of: ColumnName
    scale: Literal["raw", "log"] = "raw"


class DaysSince(_Input):
    """Days from a stored time to `as_of`, capped at `cap`; `scale: log` gives ln(1 + days)."""

    op: Literal["days_since"] = "days_since"
    of: ColumnName
    cap: float = 365.0
    scale: Literal["raw", "log"] = "raw"


class Equals(_Input):
    """1 where a stored text equals `value`, else 0."""

    op: Literal["equals"] = "equals"
    of: ColumnName
    value: str


class Ratio(_Input):
    """`of / over`, the default where either is missing or `over` is 0; `scale: log` gives ln((of+1)/(over+1))."""

    op: Literal["ratio"] = "ratio"
    of: ColumnName
    over: ColumnName
    scale: Literal["raw", "log"] = "raw"


class Cosine(_Input):
    """Cosine of two stored vectors of equal length."""

    op: Literal["cosine"] = "cosine"
    left: ColumnName
    right: ColumnName


class Clock(_Input):
    """A part of `as_of`: hour of the day (0-23) or day of the week (Monday 0)."""

    op: Literal["clock"] = "clock"
    part: Literal["hour", "weekday"]


class Given(_Input):
    """A number that the request itself carries: one of the card's `framing.request.context`."""

    op: Literal["given"] = "given"
    of: InputName
    scale: Literal["raw", "log"] = "raw"


class History(_Input):
    """What the entity's list-valued history says of this row's item, or of its group (category).

    `keys` is the list in the history; an element matches where it equals the item's id (`match: id`) or the item's
    column `match`. `any` is 1 where something matches, `count` sums `counts` over the matches, `share` divides that by
    the sum over the whole list, `rate` divides it by the number column `over`, `days_since` counts the days from the
    latest matching time of `times`.
    """

    op: Literal["history"] = "history"
    measure: Literal["any", "count", "share", "rate", "days_since"]
    keys: ColumnName
    match: Literal["id"] | ColumnName = "id"
    counts: ColumnName | None = None
    times: ColumnName | None = None
    over: ColumnName | None = None
    cap: float = 365.0
    scale: Literal["raw", "log"] = "raw"


Input = Annotated[Value | DaysSince | Equals | Ratio | Cosine | Clock | Given | History, Field(discriminator="op")]
Inputs = tuple[Input, ...]
INPUTS: TypeAdapter[Inputs] = TypeAdapter(tuple[Input, ...])


def columns_of(inputs: Inputs) -> tuple[str, ...]:
    """Every stored column that the inputs read, sorted: what a lookup has to fetch."""
    found = {
        value
        for one in inputs
        for field in ("of", "over", "left", "right", "keys", "match", "counts", "times")
        if isinstance(value := getattr(one, field, None), str) and ":" in value
    }
    return tuple(sorted(found))
