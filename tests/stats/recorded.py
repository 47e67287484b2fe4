"""A/A tests on recorded visits: two arms of the same answers, drawn anew by buckets, one pass or several.

A pass is a replay of all visits; its units are (unit, pass), so each falls into a bucket of its own (DESIGN D2).

Invariant: visits, their order and their values are as recorded; only the arms are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.random import Generator
from numpy.typing import NDArray

from serinus.client import BUCKETS, bucket_of
from serinus.core.stats.estimate import Rule
from tests.stats.histories import Requests, crossed, of_requests

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SALT = "verify"


@dataclass(frozen=True)
class Visits:
    """One row a visit, in order of time: `unit` from 0, `value`, `base`, `covariate`; `source` says where from."""

    unit: Ints
    value: Floats
    base: Floats
    covariate: Floats
    source: str

    @classmethod
    def read(cls, path: Path) -> Visits:
        """From a parquet file with these columns (`covariate` may be missing); one KPI of one version."""
        table = pq.read_table(path)
        columns = {name: np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names}
        _, unit = np.unique(columns["unit"], return_inverse=True)
        value, base = columns["value"].astype(np.float64), columns["base"].astype(np.float64)
        covariate = columns.get("covariate", np.zeros(len(unit))).astype(np.float64)
        return cls(unit.astype(np.int64), value, base, covariate, f"{len(unit):,} visits of {path.name}")

    @classmethod
    def made_up(cls, customers: int = 2500) -> Visits:
        """Like the retail log: 1.9 visits a customer, a few come often; hits that depend on the customer."""
        rng = np.random.default_rng(20111003)
        often = np.minimum(rng.zipf(2.1, customers), 56)
        unit = rng.permutation(np.repeat(np.arange(customers), often))
        own = rng.gamma(4.0, 0.25, customers)
        value = rng.poisson(1.47 * own[unit]).astype(np.float64)
        covariate = np.log1p(rng.poisson(20 * own[unit])).astype(np.float64)
        source = f"{len(unit):,} made-up visits of {customers:,} customers"
        return cls(unit, value, np.ones(len(unit)), covariate, source)

    def alarms(
        self,
        rng: Generator,
        runs: int,
        rule: Rule,
        *,
        passes: int = 1,
        share: float = 0.5,
        burn_in: int = 30,
        own_buckets: bool = True,
        adjust: bool = False,
        looks: int = 80,
    ) -> NDArray[np.bool_]:
        """Runs in which the boundary is crossed. `own_buckets=False`: a unit keeps its bucket in all passes and yet
        counts as a new one in each; a mistake."""
        count = int(self.unit.max()) + 1
        number = np.repeat(np.arange(passes), len(self.unit))
        unit = np.tile(self.unit, passes)
        key = [f"{u}#{p}" if own_buckets else f"{u}" for p in range(passes) for u in range(count)]
        bucket = np.array([bucket_of(SALT, one) for one in key])[number * count + unit]
        parts = [np.tile(part, passes) for part in (self.value, self.base, self.covariate)]
        look = np.arange(len(unit)) * looks // len(unit)
        found = []
        for begin in range(0, runs, 50):
            made = []
            for _ in range(min(50, runs - begin)):
                canary = rng.permutation(BUCKETS)[bucket] < round(share * BUCKETS)
                made.append(Requests(number * count + unit, look, np.where(canary, 0, 1), *parts))
            found.append(crossed(of_requests(made, looks, 2), rule, burn_in, adjust=adjust).any(axis=-1))
        return np.concatenate(found)
