"""Whole rollouts through the judge: shadow, then half of the traffic; several KPIs at once; the policy's alpha.

Invariant: looks, levels and decisions are those of `Judge` and `tests_of`; only the data are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from serinus.core.card.operation import Rollout, Step
from serinus.core.kpi import Kpi
from serinus.core.stats.judge import Judge
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.moments import Cell, Moments
from serinus.core.stats.reading import Counts, Look
from serinus.core.words import Arm, Stage
from tests.stats.histories import Histories, Requests, of_requests

Floats = NDArray[np.float64]
_COMMON = {"direction": "lower", "role": "guardrail", "per": "request"}
KPIS = (
    Kpi(
        name="hits",
        formula="hits_at_k",
        k=10,
        direction="higher",
        role="goal",
        per="request",
        non_inferiority_margin=0.1,
    ),
    Kpi(name="conversion", formula="conversion", direction="higher", role="guardrail", per="request"),
    Kpi(name="loss", formula="log_loss", burn_in_units=60, **_COMMON),
    Kpi(name="errors", formula="error_rate", harm_margin=0.1, **_COMMON),
)
POLICY = Rollout(steps=(Step(shadow=1.0), Step(weight=50)), max_duration=timedelta(days=60))
_LOOKS = {Stage.SHADOW: 6, Stage.WEIGHTS: 12}
_EACH = 50


def rolled_back(rng: Generator, runs: int) -> NDArray[np.bool_]:
    """Runs of two equal arms in which any KPI is harmed at any look of either stage."""
    tests = made_tests(KPIS, POLICY, independent_outcomes=True)
    return np.array([_one(rng, Judge(tests)) for _ in range(runs)])


def _one(rng: Generator, judge: Judge) -> bool:
    sequence, harmed = 0, False
    for step, (stage, looks) in enumerate(_LOOKS.items()):
        for kpi, increments in _evidence(rng, stage, step, looks).items():
            for number, increment in enumerate(increments, 1):
                sequence += 1
                look = Look(sequence, kpi, number, stage, step, float(sequence), number * _EACH, increment)
                harmed |= judge.read(look).harm
    return harmed


def _evidence(rng: Generator, stage: Stage, step: int, looks: int) -> dict[str, Sequence[Moments | tuple[Counts, ...]]]:
    """Requests of units with tastes of their own; in shadow both arms answer each, with hits in common."""
    count = looks * _EACH
    unit, look = rng.integers(0, count // 2, count), np.arange(count) * looks // count
    own, arm = rng.gamma(4.0, 0.25, count // 2), rng.integers(0, 2, count // 2)[unit]
    common = rng.poisson(own[unit])
    if stage is Stage.SHADOW:
        unit, look, common, arm = np.tile(unit, 2), np.tile(look, 2), np.tile(common, 2), np.repeat([0, 1], count)
    hits = common + rng.poisson(0.4 * own[unit])
    loss = 0.1 * np.exp(0.2 * (own[unit] - 1) + rng.normal(0.0, 0.2, len(unit)))
    bad = rng.random(len(unit)) < 0.01
    found: dict[str, Sequence[Moments | tuple[Counts, ...]]] = {}
    for kpi, value in (("hits", hits), ("conversion", hits > 0), ("loss", loss)):
        requests = Requests(unit, look, arm, value.astype(np.float64), np.ones(len(unit)), np.zeros(len(unit)))
        found[kpi] = increments(of_requests([requests], looks, 2), step)
    found["errors"] = [_counts(step, arm[look == now], bad[look == now]) for now in range(looks)]
    return found


def increments(history: Histories, step: int) -> list[Moments]:
    """Of the first run of a history, as the evidence sends them."""
    cells = (Cell(step, Arm.CANARY), Cell(step, Arm.STABLE))
    sofar = [
        Moments(cells, int(units.sum()), units.astype(np.int64), units.astype(np.int64), sums, cross)
        for units, sums, cross in zip(history.units[0], history.sums[0], history.cross[0], strict=True)
    ]
    return [after - before for before, after in zip([Moments.zero(cells), *sofar], sofar, strict=False)]


def _counts(step: int, arm: NDArray[np.int64], bad: NDArray[np.bool_]) -> tuple[Counts, ...]:
    arms = ((Arm.CANARY, arm == 0), (Arm.STABLE, arm == 1))
    return (Counts(step, {a: int((bad & mine).sum()) for a, mine in arms}, {a: int(mine.sum()) for a, mine in arms}),)
