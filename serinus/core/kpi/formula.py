"""What a KPI formula is: how one request becomes numbers, and what statistics, cards and reports must know of it.

Invariant: whatever differs between formulas is a field here, so nobody else asks which formula it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from serinus.core.fields import Kind
from serinus.core.kpi.rows import Rows

if TYPE_CHECKING:
    from serinus.core.kpi.kpi import Kpi

Floats = NDArray[np.float64]
Estimator = Literal["ratio", "calibration", "count"]
Role = Literal["goal", "guardrail", "report"]
# How many columns an estimator can read: a value a request, or the two sums of a quotient.
_COLUMNS: dict[Estimator, tuple[int, ...]] = {"ratio": (1, 2), "calibration": (2,), "count": (1,)}
# So many units with a positive value must be seen on the canary, or be expected there by the stable arm's share. Fewer
# make no mean normal: of rare events none may have come yet, of heavy-tailed amounts no large one (docs/statistics.md).
FEWEST_POSITIVE, FEWEST_PAYERS = 30, 200


@dataclass(frozen=True)
class Guards:
    """What must be given and seen before a formula may decide anything.

    `needs`: fields of the card's KPI that must be given. `of_label`: made of the model's probabilities, so no other
    outcome than the label's. `report_only`: why it may not judge a model; empty when it may. `min_positive`: units
    with a positive value on the canary.
    """

    needs: tuple[str, ...] = ()
    of_label: bool = False
    report_only: str = ""
    min_positive: int = FEWEST_POSITIVE


@dataclass(frozen=True)
class Formula:
    """One way to turn a request, and what came of it, into numbers.

    `of(rows, kpi)`: one array a column, one number a request. `columns`: what each adds to the KPI's name; two are the
    sums whose quotient the KPI is.
    `estimator`: judged as a quotient of means by unit, as predictions over what was observed of one arm against one,
    or by counts of incidents.
    `known_at_once`: with the answer itself, no outcome can change it. `needs_scores`: made of the items shown.
    `needs_outcomes`: made of the outcomes of the KPI's name, whatever was shown: all that belong to the request, or
    only what its unit did later without naming a request. `survives_shadow`: a mirrored answer tells it where outcomes
    are those of a log. `answered_only`: a failed request takes no part in its test.
    `whole_pages`: its test counts pages of k places where the columns count places.
    `is_share`: lies within 0 and 1: each request (or item shown) has it or has it not. `least_effect`: the greatest
    loss there can be, relative to what is: all of it, but of amounts, which refunds can turn.
    `metric`: the family of metrics of evaluation (`serinus.core.metric`) that is the same figure; empty when none is.
    `k_of_card`: without a k of its own it takes the card's.
    """

    name: str
    of: Callable[[Rows, Kpi], tuple[Floats, ...]]
    estimator: Estimator = "ratio"
    columns: tuple[str, ...] = ("",)
    known_at_once: bool = False
    needs_scores: bool = False
    needs_outcomes: Literal["all", "of_unit"] | None = None
    survives_shadow: bool = True
    for_kinds: tuple[Kind, ...] = tuple(Kind)
    guards: Guards = Guards()
    answered_only: bool = False
    whole_pages: bool = False
    is_share: bool = True
    least_effect: float = -1.0
    metric: str = ""
    k_of_card: bool = False

    def __post_init__(self) -> None:
        if len(self.columns) not in _COLUMNS[self.estimator]:
            raise ValueError(f"formula {self.name} has {len(self.columns)} columns, which no {self.estimator} can read")

    def __str__(self) -> str:
        return self.name

    @property
    def has_k(self) -> bool:
        """Whether a k is part of what it measures, and so of its metric's name."""
        return self.k_of_card or "k" in self.guards.needs
