"""How soon a true effect is found, and what a whole ramp decides: simulated with the code that decides.

Invariant: the figures printed beside ours are from independent simulations of the same designs, made before this code
was written; ours must come within 5 % of the times and 4 points of the shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from serinus.core.stats.boundary import half_width, log_e
from serinus.core.stats.estimate import Rule
from serinus.core.stats.plan import crossings
from tests.stats.histories import Histories, crossed, of_totals

Floats = NDArray[np.float64]
BASE_RATE, EFFECT, TAU = 0.05, -0.10, 0.10
_LOOKS, _CHUNK = 300, 200


@dataclass(frozen=True)
class PowerRow:
    """Units of both arms until a conversion of 5 % that fell to 4.5 % is found: median and 80th percentile."""

    share: float
    test: str
    p50: float
    p80: float

    @property
    def name(self) -> str:
        return f"{self.test}, {self.share:.0%}"


# In thousands of units: two-sided and one-sided at 0.05, one-sided at 0.01.
PRINTED = (
    PowerRow(0.05, "two-sided .05", 267, 461),
    PowerRow(0.05, "one-sided .05", 218, 387),
    PowerRow(0.05, "one-sided .01", 334, 549),
    PowerRow(0.10, "two-sided .05", 142, 247),
    PowerRow(0.10, "one-sided .05", 117, 208),
    PowerRow(0.10, "one-sided .01", 180, 300),
    PowerRow(0.25, "two-sided .05", 69.9, 120),
    PowerRow(0.25, "one-sided .05", 56.9, 102),
    PowerRow(0.25, "one-sided .01", 87.0, 146),
    PowerRow(0.50, "two-sided .05", 53.6, 90.6),
    PowerRow(0.50, "one-sided .05", 44.1, 77.3),
    PowerRow(0.50, "one-sided .01", 68.2, 111),
)


def planned(rng: Generator, row: PowerRow, paths: int = 24_000) -> list[float]:
    """Median and 80th percentile in thousands, by the planner's Brownian motion."""
    low, high = BASE_RATE * (1 + EFFECT), BASE_RATE
    variance = (low * (1 - low) / row.share + high * (1 - high) / (1 - row.share)) / BASE_RATE**2
    scale = 1 / (row.share * (1 - row.share))
    grid, alpha = np.geomspace(300 * scale, 60_000 * scale, 800), 0.01 if row.test.endswith(".01") else 0.05
    parts = []
    for _ in range(paths // 1000):
        if row.test.startswith("two"):
            steps = rng.standard_normal((1000, len(grid))) * np.sqrt(np.diff(grid, prepend=0.0) * variance)
            over = np.abs(EFFECT + np.cumsum(steps, axis=1) / grid) > half_width(variance / grid, TAU, alpha)
            parts.append(np.where(over.any(axis=1), grid[over.argmax(axis=1)], np.inf))
        else:
            parts.append(crossings(-EFFECT, variance, Rule(1.0, -1, alpha, TAU), grid, rng, 1000))
    found = np.concatenate(parts)
    return [float(np.quantile(found, q, method="higher")) / 1000 for q in (0.5, 0.8)]


def times(rng: Generator, share: float, runs: int) -> dict[str, Floats]:
    """Units until each of the three tests crosses, by run; looks on a geometric grid."""
    found: dict[str, list[Floats]] = {"two-sided .05": [], "one-sided .05": [], "one-sided .01": []}
    grid = np.unique(np.geomspace(2000 / share, 120_000 / (share * (1 - share)), _LOOKS).astype(int))
    for begin in range(0, runs, _CHUNK):
        history = _binary(rng, min(_CHUNK, runs - begin), share, np.diff(grid, prepend=0))
        effect = history.effect()
        two = log_e(effect.ratio - 1, effect.variance(1.0), TAU) >= np.log(1 / 0.05)
        for name, decided in (
            ("two-sided .05", two),
            ("one-sided .05", crossed(history, Rule(1.0, -1, 0.05, TAU))),
            ("one-sided .01", crossed(history, Rule(1.0, -1, 0.01, TAU))),
        ):
            found[name].append(np.where(decided.any(axis=1), grid[decided.argmax(axis=1)], np.inf))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _binary(rng: Generator, runs: int, share: float, each: NDArray[np.int64]) -> Histories:
    canary = rng.binomial(each, share, (runs, len(each)))
    counts = np.stack([canary, each - canary], axis=-1)
    hits = rng.binomial(counts, np.array([BASE_RATE * (1 + EFFECT), BASE_RATE]))
    return of_totals(counts, hits, hits)


@dataclass(frozen=True)
class Decision:
    """Shares of runs that are rolled back, pass, or end undecided at 168,000 units."""

    effect: float
    rollback: float
    passed: float
    undecided: float


PRINTED_DECISIONS = (
    Decision(0.0, 0.017, 0.266, 0.717),
    Decision(-0.02, 0.062, 0.091, 0.846),
    Decision(-0.05, 0.307, 0.010, 0.683),
    Decision(-0.10, 0.902, 0.0, 0.098),
    Decision(-0.20, 1.0, 0.0, 0.0),
    Decision(0.03, 0.004, 0.675, 0.322),
)


def decide(rng: Generator, effect: float, runs: int, looks: int = 14, each: int = 4000) -> Decision:
    """5, 25 and 50 % for 14 looks each of 4,000 units, the base rate a sine; the first boundary that is crossed.

    Harm is any loss, the margin is 5 %, each at 0.05.
    """
    ended = []
    for begin in range(0, runs, _CHUNK):
        history = _ramp(rng, min(_CHUNK, runs - begin), effect, looks, each)
        harm, within = (crossed(history, rule) for rule in (Rule(1.0, -1, 0.05, TAU), Rule(0.95, 1, 0.05, TAU)))
        first = [np.where(part.any(axis=1), part.argmax(axis=1), 10**6) for part in (harm, within)]
        ended.append(np.where(first[0] < first[1], -1, np.where(first[1] < 10**6, 1, 0)))
    end = np.concatenate(ended)
    return Decision(effect, float((end == -1).mean()), float((end == 1).mean()), float((end == 0).mean()))


def _ramp(rng: Generator, runs: int, effect: float, looks: int, each: int) -> Histories:
    counts, hits = (np.zeros((runs, 3 * looks, 6), dtype=np.int64) for _ in range(2))
    for look in range(3 * looks):
        step = look // looks
        rate = BASE_RATE * (1 + 0.2 * np.sin(2 * np.pi * look / looks))
        canary = rng.binomial(each, (0.05, 0.25, 0.5)[step], runs)
        for cell, units, mine in ((2 * step, canary, rate * (1 + effect)), (2 * step + 1, each - canary, rate)):
            counts[:, look, cell], hits[:, look, cell] = units, rng.binomial(units, mine)
    return of_totals(counts, hits, hits)
