"""What may go wrong in a rollout without any effect, as data: many runs of one design at once.

Invariant: a function draws from the generator it is given and from nothing else, so a row is its name and its seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtri

from serinus.core.stats import srm
from serinus.core.stats.counts import mixture_log_e
from serinus.core.stats.estimate import Effect, Rule
from tests.stats.histories import Histories, Requests, of_requests, of_totals

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ALPHA, TAU = 0.05, 0.10
# Harm of a KPI of which more is better, and of one of which less is better.
LESS, MORE = Rule(1.0, -1, ALPHA, TAU), Rule(1.0, 1, ALPHA, TAU)
RAMP = (0.05, 0.25, 0.5)
_CHUNK = 100


def ever(looks: Bools) -> Bools:
    """Over the looks of each run."""
    return np.asarray(looks.any(axis=-1))


# One closed binary observation a unit


def binary(rng: Generator, runs: int, share: float, units: int, looks: int, rate: float = 0.05) -> Histories:
    """Units split afresh at a constant share."""
    each = units // looks
    canary = rng.binomial(each, share, (runs, looks))
    counts = np.stack([canary, each - canary], axis=-1)
    hits = rng.binomial(counts, rate)
    return of_totals(counts, hits, hits)


def drifting_ramp(rng: Generator, runs: int, looks: int = 14, each: int = 4000) -> Histories:
    """The base rate falls from 6 to 4 % while the canary's share rises from 5 to 50 %."""
    counts, hits = (np.zeros((runs, 3 * looks, 6)) for _ in range(2))
    for step, (share, rate) in enumerate(zip(RAMP, (0.06, 0.05, 0.04), strict=True)):
        now = slice(step * looks, (step + 1) * looks)
        canary = rng.binomial(each, share, (runs, looks))
        counts[:, now, 2 * step], counts[:, now, 2 * step + 1] = canary, each - canary
        hits[:, now, 2 * step : 2 * step + 2] = rng.binomial(counts[:, now, 2 * step : 2 * step + 2].astype(int), rate)
    return of_totals(counts, hits, hits)


_DAYS, _WINDOW, _CONVERSION = 21, 4, 0.05
_BY_AGE = np.array([0.4, 0.3, 0.2, 0.1])  # when a conversion happens, in days after the exposure


def delayed(rng: Generator, runs: int, *, closed: bool, each: int = 4000) -> Histories:
    """Conversions come up to four days later, on a ramp by weeks. `closed`: units count once their window is over."""
    looks, later = _DAYS + _WINDOW, np.arange(_WINDOW)
    counts, hits = np.zeros((runs, looks, 6)), np.zeros((runs, looks, 6))
    for day in range(_DAYS):
        step = day // 7
        canary = rng.binomial(each, RAMP[step], runs)
        for cell, units in ((2 * step, canary), (2 * step + 1, each - canary)):
            converted = rng.binomial(units, _CONVERSION)
            by_age = rng.multinomial(converted, _BY_AGE)
            if closed:
                counts[:, day + _WINDOW, cell] += units
                hits[:, day + _WINDOW, cell] += converted
            else:
                counts[:, day, cell] += units
                hits[:, day + later, cell] += by_age
    return of_totals(counts, hits, hits)


# Amounts with a heavy tail: 2 % of the units pay, lognormal with sigma 1.5, 5 % of the units on the canary

_PAYING, _SIGMA = 0.02, 1.5
# The 99.9th percentile of a unit's revenue, and that of a payer's.
CAP, LOOSE_CAP, NO_CAP = (float(np.exp(_SIGMA * ndtri(1 - share))) for share in (0.001 / _PAYING, 0.001, 0.0))


def revenue(rng: Generator, runs: int, cap: float, looks: int = 200, each: int = 5000) -> Histories:
    """Revenue a unit, payers in `positive`."""
    canary = rng.binomial(each, RAMP[0], (runs, looks))
    counts = np.stack([canary, each - canary], axis=-1)
    payers = rng.binomial(counts, _PAYING)
    amounts = np.minimum(np.exp(rng.normal(0.0, _SIGMA, int(payers.sum()))), cap)
    owner = np.repeat(np.arange(payers.size), payers.reshape(-1))
    total, squares = (np.bincount(owner, part, payers.size).reshape(payers.shape) for part in (amounts, amounts**2))
    return of_totals(counts, total, squares, payers)


# Units with many requests


@dataclass(frozen=True)
class Visits:
    """How often units come and what they do: mean requests a unit, spread of units' own rates, hits a request."""

    units: int = 400
    requests: int = 4000
    looks: int = 40
    taste: float = 2.0  # shape of the gamma of units' own rates: with 10 requests each a design effect of about 5
    hits: float = 1.5

    def runs(self, rng: Generator, runs: int, share: float, effect: float = 0.0) -> Iterator[Requests]:
        """A unit keeps its arm; its requests come at any time, and those of one unit are alike."""
        for _ in range(runs):
            own = rng.gamma(self.taste, 1 / self.taste, self.units)
            unit = rng.integers(0, self.units, self.requests)
            cell = (rng.random(self.units) >= share).astype(np.int64)[unit]
            rate = self.hits * own[unit] * (1 + effect * (cell == 0))
            value = rng.poisson(rate).astype(np.float64)
            look = np.arange(self.requests) * self.looks // self.requests
            yield Requests(unit, look, cell, value, np.ones(self.requests), own[unit])


def clustered(rng: Generator, runs: int, share: float, *, by_request: bool = False, effect: float = 0.0) -> Histories:
    """`by_request`: each request taken for a unit of its own; a mistake."""
    visits = Visits()
    made = list(visits.runs(rng, runs, share, effect))
    if by_request:
        made = [Requests(np.arange(len(r.unit)), r.look, r.cell, r.value, r.base, r.covariate) for r in made]
    return of_requests(made, visits.looks, 2)


def returning(rng: Generator, runs: int, looks: int = 12, units: int = 1500) -> Histories:
    """Units come back in every step of a ramp; those whose bucket is reached change to the canary."""
    made = []
    for _ in range(runs):
        own, bucket = rng.gamma(2.0, 0.5, units), rng.random(units)
        unit = rng.integers(0, units, 3 * looks * 60)
        look = np.repeat(np.arange(3 * looks), 60)
        step = look // looks
        cell = 2 * step + (bucket[unit] >= np.array(RAMP)[step])
        value = rng.poisson(own[unit] * (1.0 + 0.5 * step)).astype(np.float64)
        made.append(Requests(unit, look, cell, value, np.ones(len(unit)), np.zeros(len(unit))))
    return of_requests(made, 3 * looks, 6)


def covaried(rng: Generator, runs: int, share: float, looks: int = 40, units: int = 2000) -> Histories:
    """A covariate from before that explains half of the variance, with a skew."""
    made = []
    for _ in range(runs):
        covariate = rng.gamma(2.0, 1.0, units)
        value = 2.0 + covariate + rng.gamma(2.0, 1.0, units)
        cell = (rng.random(units) >= share).astype(np.int64)
        look = np.arange(units) * looks // units
        made.append(Requests(np.arange(units), look, cell, value, np.ones(units), covariate))
    return of_requests(made, looks, 2)


def losses(rng: Generator, runs: int, share: float, looks: int = 40, requests: int = 2000) -> Histories:
    """Log loss a request, skewed between units and within; about as recorded on the retail problem."""
    made = []
    for _ in range(runs):
        units = requests // 2
        own = 0.12 * np.exp(rng.normal(0.0, 0.18, units))
        unit = rng.integers(0, units, requests)
        value = own[unit] * np.exp(rng.normal(0.0, 0.2, requests))
        cell = (rng.random(units) >= share).astype(np.int64)[unit]
        look = np.arange(requests) * looks // requests
        made.append(Requests(unit, look, cell, value, np.ones(requests), np.zeros(requests)))
    return of_requests(made, looks, 2)


def shadowed(rng: Generator, runs: int, looks: int = 30, requests: int = 600) -> Histories:
    """Both arms answer each request, with hits in common and hits of their own."""
    made = []
    for _ in range(runs):
        units = requests // 2
        own, unit = rng.gamma(2.0, 0.5, units), np.tile(rng.integers(0, units, requests), 2)
        common = np.tile(rng.poisson(own[unit[:requests]]), 2)
        value = (common + rng.poisson(0.4 * own[unit])).astype(np.float64)
        look = np.tile(np.arange(requests) * looks // requests, 2)
        cell = np.repeat([0, 1], requests)
        made.append(Requests(unit, look, cell, value, np.ones(2 * requests), np.zeros(2 * requests)))
    return of_requests(made, looks, 2)


# What proxies do with cookies: whoever was sent to the canary once stays there, all others are drawn again


def ratchet(
    rng: Generator, runs: int, share: float = 0.1, looks: int = 20, units: int = 1000
) -> tuple[Histories, Bools]:
    """Conversions by the arm a unit ended on, and where the shares of units are refuted by then."""
    counts, hits = np.zeros((runs, looks, 2)), np.zeros((runs, looks, 2))
    found = np.zeros((runs, looks), dtype=bool)
    for run in range(runs):
        rate = rng.gamma(1.0, 0.5, units)
        canary, requests = np.zeros(units, dtype=bool), np.zeros(units)
        for look in range(looks):
            now = rng.poisson(rate)
            canary |= rng.random(units) >= (1 - share) ** now
            requests += now
            for cell, mine in enumerate((canary, ~canary)):
                mine = mine & (requests > 0)
                counts[run, look, cell] = mine.sum()
                hits[run, look, cell] = (rng.random(mine.sum()) < 1 - 0.9 ** requests[mine]).sum()
            found[run, look] = srm.log_e(*counts[run, look], share) >= -np.log(srm.ALPHA)
    # Each look sees all units anew, so its counts are its own, not a sum over looks.
    totals = [np.diff(part, axis=1, prepend=0.0) for part in (counts, hits)]
    return of_totals(totals[0], totals[1], totals[1]), found


# Rare bad events: requests by look, first 5 % of them to the canary, then 25 %


def incidents(
    rng: Generator, runs: int, ratio: float, rate: float, burst: float = 1.0, looks: int = 300
) -> tuple[Floats, Floats, Floats, Floats]:
    """Incidents and bad requests of both arms, (2, runs, looks) each as canary and stable, and the realised shares."""
    share = np.where(np.arange(looks) < looks // 2, 0.05, 0.25)
    canary = rng.binomial(3000, share, (runs, looks))
    requests = np.stack([canary, 3000 - canary])
    mean = requests * rate / burst * np.array([ratio, 1.0])[:, None, None]
    events = rng.poisson(mean)
    # A burst of k has k - 1 more bad requests; sums of geometric sizes are negative binomial.
    more = (
        rng.negative_binomial(np.maximum(events, 1), 1 / burst) * (events > 0) if burst > 1 else np.zeros_like(events)
    )
    return events.astype(float), (events + more).astype(float), requests.astype(float), canary / 3000


def count_alarms(
    rng: Generator, runs: int, ratio: float, rate: float, burst: float = 1.0, *, single: bool = False
) -> Bools:
    """By the count test against a ratio of 1.1, alpha 0.01. `single`: bad requests counted one by one."""
    events, bad, _, share = incidents(rng, runs, ratio, rate, burst)
    seen = bad if single else events
    return ever(mixture_log_e(seen[0], seen[1], share, 1.1) >= -np.log(0.01))


def naive_count_alarms(rng: Generator, runs: int, ratio: float, rate: float) -> Bools:
    """Two proportions compared by z at every look, one-sided 0.01."""
    events, _, requests, _ = incidents(rng, runs, ratio, rate)
    x, n = np.cumsum(events, axis=2), np.cumsum(requests, axis=2)
    pooled = x.sum(axis=0) / n.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (x[0] / n[0] - x[1] / n[1]) / np.sqrt(pooled * (1 - pooled) * (1 / n[0] + 1 / n[1]))
    return ever((z > 2.3263) & (x.sum(axis=0) >= 20))


# Shares of units


def shares(
    rng: Generator, runs: int, plan: tuple[float, ...], each: int = 400, looks: int = 200
) -> tuple[Floats, Floats]:
    """Log e-values over the steps of a plan, and the worst chi-square of a step at each look."""
    log_e, worst = [], []
    before = np.zeros(runs)
    for share in plan:
        canary = np.cumsum(rng.binomial(each, share, (runs, looks)), axis=1)
        total = np.arange(1, looks + 1) * each
        value = srm.log_e(canary, total - canary, share)
        log_e.append(before[:, None] + value)
        worst.append((canary - share * total) ** 2 / (share * (1 - share) * total))
        before = before + value[:, -1]
    return np.concatenate(log_e, axis=1), np.concatenate(worst, axis=1)


def calibration_alarms(rng: Generator, runs: int, looks: int = 40, requests: int = 1200) -> Bools:
    """Predictions exactly 1.5 times what is observed, on the canary alone, against a boundary of 1.5."""
    visits = []
    for _ in range(runs):
        units = requests // 2
        unit = rng.integers(0, units, requests)
        own = rng.gamma(8.0, 1 / 8, units)
        observed = rng.binomial(100, 0.046 * own[unit]).astype(np.float64)
        predicted = 1.5 * 4.6 * own[unit] * rng.gamma(20.0, 1 / 20, requests)
        look = np.arange(requests) * looks // requests
        visits.append(Requests(unit, look, np.zeros(requests, np.int64), predicted, observed, np.zeros(requests)))
    history = of_requests(visits, looks, 2)
    n, total = history.units[..., 0], history.sums[..., 0, :]
    spread = history.cross[..., :3, :3] - total[..., :, None] * total[..., None, :] / n[..., None, None]
    spread *= (n / (n - 1) / total[..., 1] ** 2)[..., None, None]
    effect = Effect(total[..., 0] / total[..., 1], spread[..., 0, 0], spread[..., 1, 1], spread[..., 0, 1], n - 1)
    return ever(effect.bound(Rule(1.5, 1, ALPHA, TAU))[1] & (n >= 60))
