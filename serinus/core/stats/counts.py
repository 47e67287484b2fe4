"""The test of rare bad events: given an incident, whose is it? Exact at any count, whatever the traffic does.

With a rate ratio r and a share w of the requests, an incident is the canary's with probability w r / (w r + 1 - w)
(Lindon and Malek 2022, arXiv:2011.03567). The share is the one realised in each increment, so drifting traffic, common
faults and changes of weight cancel. An e-value is a mean over a grid of ratios of likelihood against the null's.

Invariant: the state is a sum over increments: restarting from it and folding everything anew give the same e-value, and
the order of increments does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from serinus.core.stats.reading import Counts
from serinus.core.words import Arm

Floats = NDArray[np.float64]
POINTS = 60
# The grid of alternatives: from 2 % above the null to 20 times as many incidents.
_NEAREST, _FARTHEST = 1.02, 20.0


@dataclass(frozen=True)
class RatioGrid:
    """Rate ratios, rising: 60 below the null, the null, 60 above, which are the alternatives of the test."""

    null: float

    @property
    def ratios(self) -> Floats:
        """(121,)"""
        above = np.geomspace(_NEAREST * self.null, _FARTHEST, POINTS)
        return np.concatenate([np.square(self.null) / above[::-1], [self.null], above])


@dataclass(frozen=True)
class CountState:
    """What a count test knows: the log-likelihood at each ratio of its grid, and the sums of the Mantel-Haenszel ratio.

    `incidents` and `requests`: so far, by arm.
    """

    grid: RatioGrid
    log_likelihood: Floats
    canary_rate: float
    stable_rate: float
    incidents: Mapping[Arm, int]
    requests: Mapping[Arm, int]

    @classmethod
    def start(cls, null: float) -> CountState:
        """Nothing seen; `null` is the largest rate ratio that counts as harmless."""
        none = dict.fromkeys(Arm, 0)
        return cls(RatioGrid(null), np.zeros(2 * POINTS + 1), 0.0, 0.0, none, dict(none))

    def add(self, increment: Sequence[Counts]) -> CountState:
        """The state after more counts. An increment in which an arm had no request tells nothing of the ratio."""
        state = self
        for counts in increment:
            state = state._add(counts)
        return state

    def log_e(self) -> float:
        """Log e-value against "the ratio is at most the null"."""
        return float(self._log_e_above()[POINTS])

    @property
    def estimate(self) -> float | None:
        """The rate ratio by Mantel and Haenszel over increments; None without stable incidents."""
        return self.canary_rate / self.stable_rate if self.stable_rate else None

    def low(self, alpha: float) -> float | None:
        """The largest ratio of the grid up to which all are refuted; None when none is.

        It reaches the null exactly when the e-value against the null reaches 1 / alpha.
        """
        refuted = self._log_e_above() >= -np.log(alpha)
        count = int(np.argmin(refuted)) if not refuted.all() else len(refuted)
        return float(self.grid.ratios[count - 1]) if count else None

    def high(self, alpha: float) -> float | None:
        """The smallest ratio of the grid from which on all are refuted; None when none is."""
        refuted = self._log_e_below()[::-1] >= -np.log(alpha)
        count = int(np.argmin(refuted)) if not refuted.all() else len(refuted)
        return float(self.grid.ratios[-count]) if count else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "null": self.grid.null,
            "log_likelihood": self.log_likelihood.tolist(),
            "canary_rate": self.canary_rate,
            "stable_rate": self.stable_rate,
            "incidents": {arm.value: self.incidents[arm] for arm in Arm},
            "requests": {arm.value: self.requests[arm] for arm in Arm},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CountState:
        """The inverse of `as_dict`."""
        return cls(
            RatioGrid(float(document["null"])),
            np.array(document["log_likelihood"], dtype=np.float64),
            float(document["canary_rate"]),
            float(document["stable_rate"]),
            {Arm(arm): int(count) for arm, count in document["incidents"].items()},
            {Arm(arm): int(count) for arm, count in document["requests"].items()},
        )

    def _add(self, counts: Counts) -> CountState:
        requests = {arm: self.requests[arm] + counts.requests.get(arm, 0) for arm in Arm}
        incidents = {arm: self.incidents[arm] + counts.incidents.get(arm, 0) for arm in Arm}
        canary, stable = counts.requests.get(Arm.CANARY, 0), counts.requests.get(Arm.STABLE, 0)
        if not canary or not stable:
            return CountState(self.grid, self.log_likelihood, self.canary_rate, self.stable_rate, incidents, requests)
        bad, worse = counts.incidents.get(Arm.STABLE, 0), counts.incidents.get(Arm.CANARY, 0)
        total = canary + stable
        return CountState(
            self.grid,
            self.log_likelihood + log_likelihood(worse, bad, canary / total, self.grid.ratios),
            self.canary_rate + worse * stable / total,
            self.stable_rate + bad * canary / total,
            incidents,
            requests,
        )

    def _log_e_above(self) -> Floats:
        """Against "at most r" for each r of the grid: the mean over the grid points above r; -inf for the last."""
        rising = np.logaddexp.accumulate(self.log_likelihood[::-1])[::-1]
        above = np.append(rising[1:], -np.inf)
        count = np.arange(len(rising) - 1, -1, -1)
        return np.asarray(above - np.log(np.maximum(count, 1)) - self.log_likelihood)

    def _log_e_below(self) -> Floats:
        """Against "at least r": the mean over the grid points below r; -inf for the first."""
        falling = np.append(-np.inf, np.logaddexp.accumulate(self.log_likelihood)[:-1])
        return np.asarray(falling - np.log(np.maximum(np.arange(len(falling)), 1)) - self.log_likelihood)


def log_likelihood(canary: float | Floats, stable: float | Floats, share: float | Floats, ratios: Floats) -> Floats:
    """Of the split of incidents, up to a constant: arguments (...), or arrays that broadcast with `ratios`."""
    split = np.log(share) - np.log1p(-np.asarray(share))
    odds = np.exp(split) * ratios
    return np.asarray(canary * (split + np.log(ratios)) - (canary + stable) * np.log1p(odds))


def mixture_log_e(canary: Floats, stable: Floats, share: Floats, null: float) -> Floats:
    """The log e-value after each of the increments, (..., looks) to (..., looks): a whole history at once."""
    ratios = RatioGrid(null).ratios[POINTS:]
    steps = log_likelihood(canary[..., None], stable[..., None], share[..., None], ratios)
    summed = np.cumsum(steps, axis=-2)
    return np.asarray(logsumexp(summed[..., 1:] - summed[..., :1], axis=-1) - np.log(POINTS))
