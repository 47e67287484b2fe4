"""The rows of the verification: each a scenario with the right analysis, or on purpose with a wrong one.

Invariant: a row says how often a boundary is crossed, at any look, when nothing should be found. `holds`: at most alpha
plus three standard errors of the simulation. `fails`: more than that: the mistake it shows must stay visible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from scipy.special import chdtri

from serinus.core.stats.estimate import Rule
from tests.stats.histories import Histories, crossed, naive_z
from tests.stats.scenarios import (
    ALPHA,
    CAP,
    LESS,
    LOOSE_CAP,
    MORE,
    NO_CAP,
    RAMP,
    TAU,
    Bools,
    binary,
    calibration_alarms,
    clustered,
    count_alarms,
    covaried,
    delayed,
    drifting_ramp,
    ever,
    losses,
    naive_count_alarms,
    ratchet,
    returning,
    revenue,
    shadowed,
    shares,
)

_CHUNK = 100


@dataclass(frozen=True)
class Row:
    """`simulate` makes so many runs and says in which a boundary was crossed. `quick`: re-run by every check."""

    name: str
    claim: str
    expects: Literal["holds", "fails"]
    simulate: Callable[[Generator, int], Bools]
    alpha: float = ALPHA
    runs: int = 2000
    quick: bool = False

    @property
    def limit(self) -> float:
        """What chance alone hardly ever exceeds when the true rate is alpha."""
        return self.alpha + 3 * float(np.sqrt(self.alpha * (1 - self.alpha) / self.runs))

    def agrees(self, rate: float) -> bool:
        """Whether the rate is as expected."""
        return (rate <= self.limit) == (self.expects == "holds")


def in_chunks(make: Callable[[Generator, int], Bools], chunk: int = _CHUNK) -> Callable[[Generator, int], Bools]:
    """The same in parts, for memory."""

    def simulate(rng: Generator, runs: int) -> Bools:
        return np.concatenate([make(rng, min(chunk, runs - begin)) for begin in range(0, runs, chunk)])

    return simulate


_STRONG = Rule(1.0, -1, ALPHA, 0.2)
# Alpha is split over stages and KPIs, so the levels in use are about this.
_STRICT = Rule(1.0, -1, 0.005, TAU)
_MARGIN = Rule(0.9, 1, ALPHA, TAU)


def _harm(
    make: Callable[[Generator, int], Histories], rule: Rule = LESS, **options: int | bool
) -> Callable[[Generator, int], Bools]:
    burn_in, positive = int(options.get("burn_in", 30)), int(options.get("positive", 30))
    adjust = bool(options.get("adjust"))
    return in_chunks(lambda rng, runs: ever(crossed(make(rng, runs), rule, burn_in, positive, adjust=adjust)))


ROWS: tuple[Row, ...] = (
    Row(
        "binary_half",
        "conversion 5 %, 200,000 units at 50 %, 400 looks",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.5, 200_000, 400)),
        quick=True,
    ),
    Row(
        "binary_twentieth",
        "the same at 5 %, 1,000,000 units",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.05, 1_000_000, 400)),
    ),
    Row(
        "naive_z",
        "the same at 50 %, but z = 1.96 at every look",
        "fails",
        in_chunks(lambda g, r: ever(naive_z(binary(g, r, 0.5, 200_000, 400), 1.96))),
        quick=True,
    ),
    Row(
        "binary_fine",
        "conversion 5 % at 10 %, 20,000 units, a look every 50, from 30 conversions expected of the canary",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.1, 20_000, 400)),
        quick=True,
    ),
    Row(
        "binary_early",
        "the same from 30 units an arm, whatever has come of them, level 0.005",
        "fails",
        _harm(lambda g, r: binary(g, r, 0.1, 20_000, 400), _STRICT, positive=0),
        0.005,
        quick=True,
    ),
    Row(
        "binary_fine_strict",
        "the same from 30 conversions expected, level 0.005",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.1, 20_000, 400), _STRICT),
        0.005,
    ),
    Row(
        "binary_fine_more",
        "the same where more is worse",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.1, 20_000, 400), replace(MORE, alpha=0.005)),
        0.005,
    ),
    Row(
        "ramp",
        "5, 25, 50 % while the base rate falls 6, 5, 4 %; compared within steps",
        "holds",
        _harm(drifting_ramp),
        quick=True,
    ),
    Row("ramp_pooled", "the same, steps pooled", "fails", _harm(lambda g, r: drifting_ramp(g, r).pooled()), quick=True),
    Row(
        "delay",
        "conversions up to 4 days late on a ramp; closed windows",
        "holds",
        _harm(lambda g, r: delayed(g, r, closed=True)),
        quick=True,
    ),
    Row(
        "delay_open",
        "the same, units counted at once, steps pooled",
        "fails",
        _harm(lambda g, r: delayed(g, r, closed=False).pooled()),
        quick=True,
    ),
    Row(
        "tail",
        "2 % of units pay, lognormal 1.5, capped at p99.9 of a unit, 5 % canary, from 200 payers an arm",
        "holds",
        _harm(lambda g, r: revenue(g, r, CAP), burn_in=2, positive=200),
    ),
    Row(
        "tail_early",
        "the same, uncapped, from 10 payers an arm, tau 0.2",
        "fails",
        _harm(lambda g, r: revenue(g, r, NO_CAP), _STRONG, burn_in=2, positive=10),
    ),
    Row(
        "tail_loose",
        "the same from 200 payers an arm, capped at p99.9 of the payers only, tau 0.2, level 0.005",
        "fails",
        _harm(lambda g, r: revenue(g, r, LOOSE_CAP), replace(_STRONG, alpha=0.005), burn_in=2, positive=200),
        0.005,
    ),
    Row(
        "clustered",
        "units with about 10 requests each that are alike, 50 %",
        "holds",
        _harm(lambda g, r: clustered(g, r, 0.5)),
    ),
    Row("clustered_quarter", "the same at 25 %", "holds", _harm(lambda g, r: clustered(g, r, 0.25))),
    Row(
        "clustered_naive",
        "the same at 50 %, requests taken for independent",
        "fails",
        _harm(lambda g, r: clustered(g, r, 0.5, by_request=True)),
    ),
    Row(
        "margin",
        "units as above, truly 10 % worse: passes the margin of 10 %",
        "holds",
        _harm(lambda g, r: clustered(g, r, 0.5, effect=-0.1), _MARGIN),
    ),
    Row("returning", "units come back in all steps of a ramp and change arms with it", "holds", _harm(returning)),
    Row(
        "binary_strict",
        "conversion 5 %, 5 % canary, 1,000,000 units, level 0.005",
        "holds",
        _harm(lambda g, r: binary(g, r, 0.05, 1_000_000, 400), _STRICT),
        0.005,
    ),
    Row(
        "tail_strict",
        "payers as above, capped, from 200 payers an arm, level 0.005",
        "holds",
        _harm(lambda g, r: revenue(g, r, CAP), _STRICT, burn_in=2, positive=200),
        0.005,
    ),
    Row("shadow_strict", "both arms answer 600 requests, level 0.005", "holds", _harm(shadowed, _STRICT), 0.005),
    Row(
        "log_loss_strict",
        "skewed losses at 10 %, burn-in 60 units, level 0.005",
        "holds",
        _harm(lambda g, r: losses(g, r, 0.1), replace(MORE, alpha=0.005), burn_in=60),
        0.005,
    ),
    Row(
        "covariate_strict",
        "adjusted by a covariate at 10 %, skewed, burn-in 60 units, level 0.005",
        "holds",
        _harm(lambda g, r: covaried(g, r, 0.1), _STRICT, burn_in=60, adjust=True),
        0.005,
    ),
    Row(
        "covariate_early",
        "the same from 5 units an arm",
        "fails",
        _harm(lambda g, r: covaried(g, r, 0.1), _STRICT, burn_in=5, positive=0, adjust=True),
        0.005,
    ),
    Row("covariate", "adjusted by a covariate, 50 %", "holds", _harm(lambda g, r: covaried(g, r, 0.5), adjust=True)),
    Row("covariate_tenth", "the same at 10 %", "holds", _harm(lambda g, r: covaried(g, r, 0.1), adjust=True)),
    Row(
        "log_loss",
        "skewed losses at 10 %, burn-in 60 units",
        "holds",
        _harm(lambda g, r: losses(g, r, 0.1), MORE, burn_in=60),
    ),
    Row("shadow", "both arms answer 600 requests", "holds", _harm(shadowed)),
    Row("calibration", "one arm, predictions at the boundary of 1.5", "holds", in_chunks(calibration_alarms)),
    Row(
        "errors",
        "0.2 % errors, ratio at the harmless limit 1.1, weight changes midway",
        "holds",
        in_chunks(lambda g, r: count_alarms(g, r, 1.1, 0.002), 200),
        0.01,
        quick=True,
    ),
    Row(
        "errors_frequent",
        "the same with 2 % errors",
        "holds",
        in_chunks(lambda g, r: count_alarms(g, r, 1.1, 0.02), 200),
        0.01,
    ),
    Row(
        "errors_naive",
        "2 % errors, equal arms, but two proportions by z = 2.33 at every look",
        "fails",
        in_chunks(lambda g, r: naive_count_alarms(g, r, 1.0, 0.02), 200),
        0.01,
        quick=True,
    ),
    Row(
        "bursts",
        "errors in bursts of 10, equal arms, incidents counted",
        "holds",
        in_chunks(lambda g, r: count_alarms(g, r, 1.0, 0.002, 10.0), 200),
        0.01,
    ),
    Row(
        "bursts_single",
        "the same, every bad request counted",
        "fails",
        in_chunks(lambda g, r: count_alarms(g, r, 1.0, 0.002, 10.0, single=True), 200),
        0.01,
    ),
    Row(
        "shares",
        "units by plan: 5, 25, 50 %, 600 looks",
        "holds",
        lambda g, r: ever(shares(g, r, RAMP)[0] >= -np.log(0.01)),
        0.01,
        quick=True,
    ),
    Row(
        "shares_naive",
        "the same, chi-square at every look",
        "fails",
        lambda g, r: ever(shares(g, r, RAMP)[1] > chdtri(1, 0.01)),
        0.01,
        quick=True,
    ),
    Row(
        "ratchet",
        "a proxy's cookie keeps units on the canary only",
        "fails",
        _harm(lambda g, r: ratchet(g, r)[0], MORE),
        runs=2000,
    ),
    Row(
        "ratchet_found",
        "the same, by the shares of units",
        "fails",
        in_chunks(lambda g, r: ever(ratchet(g, r)[1])),
        0.01,
    ),
)
