"""Which ids were reduced before, so that a row that comes again is seen as such, and a late outcome as late.

Invariant: what is kept is as of the last reduction, and covers event times from some moment on; it is held between
reductions, and made from the files of KPI rows when this is another process's turn. An id counts for its own time only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serinus.evidence.joins import RETRY_SECONDS
from serinus.evidence.kpi_files import ids_since
from serinus.evidence.matching import column
from serinus.evidence.state import KpiFile, State, StateFolder

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Closed:
    """Hashes of the ids and request ids of KPI rows, and their event times: a million texts would be 150 MB."""

    ids: Ints
    requests: Ints
    as_of: Floats

    @classmethod
    def of(cls, rows: pa.Table) -> Closed:
        """Of some rows."""
        return cls(_hashes(rows["id"].to_pylist()), _hashes(rows["request_id"].to_pylist()), column(rows, "as_of"))


class Ids:
    """Texts with their times, as hashes of 64 bits; sorted runs that double in size, so adding costs little."""

    def __init__(self) -> None:
        self._runs: list[tuple[Ints, Floats]] = []

    def add(self, hashes: Ints, times: Floats) -> None:
        """More of them."""
        run = _sorted(hashes, times)
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            before = self._runs.pop()
            run = _sorted(np.concatenate([before[0], run[0]]), np.concatenate([before[1], run[1]]))
        self._runs.append(run)

    def forget(self, before: float) -> None:
        """Those of earlier times."""
        kept = [(hashes[times >= before], times[times >= before]) for hashes, times in self._runs]
        self._runs = [one for one in kept if len(one[0])]

    def among(self, texts: Iterable[str], low: Floats, high: Floats) -> Bools:
        """For each text whether it is there with a time from `low` to `high`."""
        hashes, found = _hashes(texts), np.zeros(len(low), dtype=np.bool_)
        for known, times in self._runs:
            first, end = np.searchsorted(known, hashes), np.searchsorted(known, hashes, side="right")
            for place in np.flatnonzero(end > first).tolist():
                mine = times[first[place] : end[place]]
                found[place] |= bool(((mine >= low[place]) & (mine <= high[place])).any())
        return found


class Known:
    """Of one reduction. `longest`: seconds in which an outcome may count for its request."""

    def __init__(self, folder: StateFolder, longest: float) -> None:
        self._folder, self._longest = folder, longest
        self._files: tuple[KpiFile, ...] = ()
        self._generation, self._since = -1, math.inf
        self._ids, self._requests = Ids(), Ids()

    def begin(self, state: State) -> None:
        """A reduction goes on from this state."""
        if self._generation != state.generation:
            self._ids, self._requests, self._since = Ids(), Ids(), math.inf
        self._generation, self._files = state.generation, state.kpi_files

    def again(self, exposures: pa.Table) -> Bools:
        """For each exposure whether it was reduced, at most `RETRY_SECONDS` away from it."""
        as_of = column(exposures, "as_of")
        low = as_of - RETRY_SECONDS
        self._cover(low.min(initial=math.inf))
        return self._ids.among(exposures["id"].to_pylist(), low, as_of + RETRY_SECONDS)

    def closed(self, outcomes: pa.Table) -> Bools:
        """For each outcome whether its request was reduced: one that it could be late for."""
        as_of = column(outcomes, "as_of")
        low = as_of - self._longest - RETRY_SECONDS
        self._cover(low.min(initial=math.inf))
        return self._requests.among(outcomes["request_id"].to_pylist(), low, as_of + RETRY_SECONDS)

    def end(self, state: State, rows: Iterable[Closed], now: float) -> None:
        """The reduction was saved as this state, and closed these rows."""
        for one in rows:
            self._add(one)
        self._generation = state.generation
        # Twice as long as is asked for, as a rule: so each is forgotten once, and few at a time.
        reach = self._longest + 2 * RETRY_SECONDS
        if self._since < now - 3 * reach:
            self._since = now - 2 * reach
            self._ids.forget(self._since)
            self._requests.forget(self._since)

    def _cover(self, moment: float) -> None:
        if moment < self._since:
            self._ids, self._requests, self._since = Ids(), Ids(), moment
            for part in ids_since(self._folder, self._files, moment):
                self._add(Closed.of(part))

    def _add(self, rows: Closed) -> None:
        self._ids.add(rows.ids, rows.as_of)
        self._requests.add(rows.requests, rows.as_of)


def _hashes(texts: Iterable[str]) -> Ints:
    return np.fromiter(map(hash, texts), dtype=np.int64)


def _sorted(hashes: Ints, times: Floats) -> tuple[Ints, Floats]:
    """By hash and time, equal ones once: a request has a row a window."""
    order = np.lexsort([times, hashes])
    hashes, times = hashes[order], times[order]
    new = np.ones(len(hashes), dtype=np.bool_)
    new[1:] = (np.diff(hashes) != 0) | (np.diff(times) != 0)
    return hashes[new], times[new]
