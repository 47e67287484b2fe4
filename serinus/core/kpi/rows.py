"""What a formula is given: requests whose window has closed, as numpy columns, and what came of them.

Invariant: position i of every column is the same request; an outcome is there only if it happened and arrived within
the KPI's window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serinus.core.kpi.ranked import RankedRows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Shown:
    """Items shown, a row each, in the order shown, with label and worth by the outcomes of the KPI's name.

    Kind scoring has one row a request. A request that failed has none.
    """

    ranked: RankedRows
    probabilities: Floats

    @classmethod
    def nothing(cls) -> Shown:
        """Of no request."""
        none, rows = np.zeros(0), np.zeros(0, np.int64)
        return cls(RankedRows(rows, rows, none, none, 0), none)


@dataclass(frozen=True)
class Happened:
    """Outcomes of the KPI's name, a row for each request that one belongs to.

    `request`: the position of the request. `value`: what the outcome was worth. An outcome that names no request
    belongs to each request of its unit in the window before it.
    """

    request: Ints
    value: Floats

    @classmethod
    def nothing(cls) -> Happened:
        """No outcome."""
        return cls(np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class Rows:
    """Closed requests of one window.

    `failed`: answered with an error. `latency_ms`: of the answer. `cold_start`: the entity was unknown. `defaulted`:
    how many lookups fell back to a default. `shown` is there for formulas with `needs_scores`, `happened` for those
    with `needs_outcomes`.
    """

    failed: Bools
    latency_ms: Floats
    cold_start: Bools
    defaulted: Floats
    shown: Shown = field(default_factory=Shown.nothing)
    happened: Happened = field(default_factory=Happened.nothing)

    def __len__(self) -> int:
        return len(self.failed)

    def total(self, request: Ints, amounts: Floats | None = None) -> Floats:
        """Sum of `amounts` (1 each when not given) over the rows that belong to each request."""
        return np.bincount(request, weights=amounts, minlength=len(self)).astype(np.float64)
