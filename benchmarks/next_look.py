"""The next increment of evidence after 10⁴ to 10⁶ closed requests: `python benchmarks/next_look.py [--quick]`.

Made KPI rows of retail's card, a row a request and window, a third of the units returning, at 50 requests/s: so many
requests are taken first, in parts of 100,000, then 2,000 more, and the seconds of those are told. There is no peer: the
figure is compared with itself at other sizes, and must not grow with them.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
from _bench import timed

from serinus.client import bucket_of
from serinus.core.assignment import PER_PERCENT, places
from serinus.core.card import Problem
from serinus.core.words import Stage
from serinus.evidence.increments import Increments, Question
from serinus.evidence.joins import kpi_schema
from serinus.evidence.kpi_files import GENERATION
from serinus.evidence.plan import KpiPlan
from serinus.evidence.rollout_rows import Routed, Span
from serinus.wiring.project import open_project

SIZES, QUICK, PART, NEXT, RATE, SEED = (10_000, 100_000, 1_000_000), (10_000, 40_000), 100_000, 2_000, 50.0, 7
ARMS = np.array(["retail-v1-aaaaaa", "retail-v2-bbbbbb"])


class Made:
    """KPI rows that close part by part."""

    def __init__(self, card: Problem) -> None:
        self._plan, self._covariates = KpiPlan.of(card), len(card.requirements.covariates)
        self._rng, self._requests, self._fresh = np.random.default_rng(1), 0, list[pa.Table]()
        self._generation, self._place = 0, np.array(places(SEED))

    def close(self, count: int) -> None:
        """So many requests more, in every window."""
        first, self._requests, self._generation = self._requests, self._requests + count, self._generation + 1
        number = np.arange(first, first + count)
        units = [f"c{one}" for one in self._rng.integers(0, 1 + 2 * (first + count) // 3, count)]
        bucket = np.array([bucket_of("ab", one) for one in units])
        revision = ARMS[(self._place[bucket] < 50 * PER_PERCENT).astype(int)]
        names = {"id": [f"r{n}@{r}" for n, r in zip(number, revision, strict=True)], "unit": units, "bucket": bucket}
        names |= {"request_id": [f"r{n}" for n in number], "revision": revision, "at": number / RATE}
        names |= {
            "as_of": number / RATE,
            "bucket_check": ["ok"] * count,
            "error": [""] * count,
            "route": ["a.1"] * count,
        }
        names["covariates"] = list(self._rng.random((count, self._covariates)))
        for group in self._plan.groups:
            kpis = {name: (self._rng.random(count) < 0.05).astype(float) for name in group.columns()}
            self._fresh.append(self._table({**names, **kpis, "window": np.full(count, group.seconds)}, count))

    def closed_after(self, generation: int) -> pa.Table:
        """See `KpiRows`."""
        assert generation < self._generation
        found, self._fresh = pa.concat_tables(self._fresh), []
        return found

    def _table(self, values: dict[str, object], count: int) -> pa.Table:
        schema = kpi_schema(self._plan.columns()).append(GENERATION)
        values[GENERATION.name] = np.full(count, self._generation)
        return pa.table(
            [
                pa.array(values[one.name], one.type) if one.name in values else pa.nulls(count, one.type)
                for one in schema
            ],
            schema=schema,
        )


def main(sizes: tuple[int, ...]) -> None:
    """Prints a line a size."""
    card = open_project().problem("retail").card
    question = Question(Routed(*ARMS, SEED, (Span(0, Stage.WEIGHTS, 50, 0.0),)), card.requirements.kpis)
    made = Made(card)
    source = Increments(made, KpiPlan.of(card), card.requirements.covariates, lambda: 1e12)
    taken = after = 0
    for size in sizes:
        spent = 0.0
        while taken < size:
            part = min(PART, size - taken)
            made.close(part)
            found, seconds = timed(lambda after=after: source.read(question, after))
            taken, after, spent = taken + part, found.last, spent + seconds
        made.close(NEXT)
        found, seconds = timed(lambda after=after: source.read(question, after))
        taken, after = taken + NEXT, found.last
        print(
            f"{size:>9,} closed requests: next {NEXT:,} {seconds:.2f} s, {len(found.looks)} looks; before {spent:.1f} s"
        )


if __name__ == "__main__":
    main(QUICK if "--quick" in sys.argv else SIZES)
