"""Looks are folded: against the same looks counted anew from the first row each time, and on the grid of D7."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_rows import (
    BEGIN,
    COVARIATES,
    DAY,
    ERRORS,
    HITS,
    HOURS,
    KPIS,
    LATER,
    NEW,
    OLD,
    arm_of,
    evidence,
    row,
    spec_of,
    state_at,
    table_of,
    visits,
)
from looks_before import looks as counted_anew
from same_looks import same_looks

from serinus.core.card import Kpi
from serinus.core.stats.judge import Judge
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.reading import Look
from serinus.core.words import Stage
from serinus.evidence.grid import Grid
from serinus.evidence.looks import Window
from serinus.evidence.rollout_rows import Routed, classify
from serinus.evidence.source import spans

LAST = state_at(2)


def _windows(rows: list[dict[str, Any]]) -> tuple[Routed, dict[str, Window]]:
    """In order of their times."""
    routed = Routed(OLD, NEW, spec_of().seed, spans(LAST))
    found = {}
    for kpi in KPIS:
        seconds = 0.0 if kpi is ERRORS else DAY
        ordered = sorted(rows, key=lambda one: (one["as_of"], one["id"]))
        sorted_rows = classify(routed, table_of([one | {"window": seconds, "closed_at": LATER} for one in ordered]))
        found[kpi.name] = Window(sorted_rows, sorted_rows.table["as_of"].to_numpy() + seconds)
    return routed, found


@given(st.integers(0, 99), st.integers(5, 400), st.integers(1, 30), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_fold_gives_the_looks_that_counting_anew_gives(seed: int, count: int, every: int, faults: bool) -> None:
    rows = visits(seed, count, faults=faults)
    routed, windows = _windows(rows)
    kpis = tuple(kpi.model_copy(update={"look_every": every}) for kpi in KPIS)
    expected = counted_anew(routed, kpis, windows, COVARIATES)
    found = evidence(rows, LATER).read(spec_of(kpis), LAST)
    same_looks(found.looks, tuple(one.look for one in expected))


def _ends(kpi: Kpi, units: list[int], times: np.ndarray, parts: list[int]) -> list[int]:
    """Where looks of one step fall, its rows being given in parts that end where told."""
    grid, found, begin, seen = Grid(kpi), list[int](), 0, set[int]()
    for end in [*sorted(parts), len(units)]:
        first = np.array([one not in seen and not seen.add(one) for one in units[begin:end]], dtype=np.bool_)  # type: ignore[func-returns-value]
        part = np.zeros(end - begin, dtype=np.int64)
        found += [begin + one for one in grid.ends(part, first, part == 0, times[begin:end])]
        begin = end
    return found


def _every(every: int, kpi: Kpi = ERRORS) -> Kpi:
    return kpi.model_copy(update={"look_every": every})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_looks_fall_behind_the_same_rows_in_any_parts(data: st.DataObject) -> None:
    """Also of grids that are past their hundred looks."""
    count = data.draw(st.integers(1, 2_000))
    units = data.draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    times = np.cumsum(data.draw(st.lists(st.sampled_from([0.0, 0.5, 40.0]), min_size=count, max_size=count)))
    parts = data.draw(st.lists(st.integers(0, count), max_size=20))
    every = data.draw(st.integers(1, 4))
    assert _ends(_every(every), units, times, parts) == _ends(_every(every), units, times, [])


def test_new_units_bring_a_look_each_time_there_are_enough_of_them() -> None:
    assert _ends(_every(50), list(range(220)), np.arange(220.0), []) == [50, 100, 150, 200]


def test_units_that_come_again_bring_a_look_each_ten_times_as_many_rows() -> None:
    """Three hundred customers who return would else bring six looks, and then none for ever."""
    units = [one % 300 for one in range(7_200)]
    found = _ends(_every(50), units, np.arange(7_200.0), [])
    assert found[:7] == [50, 100, 150, 200, 250, 300, 800]
    assert np.diff(found[6:]).tolist() == [500] * (len(found) - 7)


def test_after_a_hundred_looks_they_are_a_hundredth_of_the_rows_apart() -> None:
    """Rows come so fast that the time does not count."""
    found = _ends(_every(10), list(range(20_000)), np.arange(20_000) / 1_000, [])
    assert found[:100] == list(range(10, 1_001, 10))
    before = np.array(found[99:-1])
    assert (np.diff(found[99:]) == np.ceil(0.01 * before)).all()
    assert len(found) < 100 + np.log(20) / np.log(1.01) + 1


@pytest.mark.parametrize(("kpi", "seconds"), [(ERRORS, 30.0), (HITS, 3_600.0)], ids=["at once", "later"])
def test_after_a_hundred_looks_none_waits_longer_than_its_time(kpi: Kpi, seconds: float) -> None:
    times = np.concatenate([np.arange(100_000) / 1e6, 1.0 + np.arange(900) * seconds / 100])
    found = _ends(_every(10, kpi), list(range(len(times))), times, [])
    waits = np.diff(times[np.array(found)[-8:] - 1])
    assert waits == pytest.approx(seconds)
    assert np.diff(found[-8:]).tolist() == [100] * 7


def test_the_grid_begins_anew_with_each_step() -> None:
    grid, none = Grid(_every(10)), np.zeros(15, dtype=np.bool_)
    for step in (0, 1, 0):
        found = grid.ends(np.full(15, step), ~none, ~none, np.arange(15.0))
        assert found == ([5, 15] if step == 0 and grid._steps[0].looks > 1 else [10])


def _of(rows: list[dict[str, Any]], kpi: Kpi) -> list[Look]:
    found = evidence(rows, LATER).read(spec_of((kpi,)), state_at(1)).looks
    return [one for one in found if one.stage is Stage.WEIGHTS]


def test_forty_customers_whose_every_request_fails_are_found() -> None:
    """Fewer units than a look takes: their rows bring it. Audit F6."""
    units = [f"u{i}" for i in range(40)]
    rows = [
        row(f"r{n}", u, arm, BEGIN + HOURS + 5 + 32.0 * n, errors=float(arm == NEW))
        for n, u in ((n, units[n % 40]) for n in range(2_700))
        for arm in [arm_of(u, 25)]
    ]
    kpi = ERRORS.model_copy(update={"look_every": 50})
    spec = spec_of((HITS, kpi))
    judge = Judge(made_tests(spec.kpis, spec.policy, independent_outcomes=True))
    found = [judge.read(look) for look in _of(rows, kpi)]
    assert len(found) == 5
    assert any(one.harm for one in found)


def test_three_hundred_customers_who_return_are_looked_at_for_ever() -> None:
    """Audit F7: they brought six looks, and the rollout stood still."""
    units = [f"u{i}" for i in range(300)]
    rows = [
        row(f"r{n}", u, arm_of(u, 25), BEGIN + HOURS + 5 + 12.0 * n)
        for n, u in ((n, units[n % 300]) for n in range(7_200))
    ]
    kpi = HITS.model_copy(update={"look_every": 50})
    found = _of(rows, kpi)
    assert [one.step_units for one in found[:6]] == [50, 100, 150, 200, 250, 300]
    assert len(found) == 6 + (7_200 - 300) // 500
    assert found[-1].at > rows[-1]["at"] - 12.0 * 500
