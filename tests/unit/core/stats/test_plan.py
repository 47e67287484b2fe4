"""The planner: baselines from moments, rows per step and decision, and times that a replay of the test confirms."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from unit_rows import made_units

from serinus.core.card import Problem
from serinus.core.card.operation import Rollout, Step
from serinus.core.errors import DataError
from serinus.core.kpi import Kpi
from serinus.core.stats.boundary import half_width_one_sided
from serinus.core.stats.estimate import Rule
from serinus.core.stats.judge import KpiTest
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.moments import Moments
from serinus.core.stats.plan import Baseline, Planned, crossings, plan, requests_needed
from serinus.core.words import Stage

# Hits among the first ten on the retail problem: notes of the replay give 1,600 visits in the median.
HITS = Baseline(
    mean=1.468, variance=1.1, requests_per_unit=1.9, units_per_day=43, covariate_r2=0.2, paired_variance=0.25
)
POLICY = Rollout(steps=(Step(shadow=1.0), Step(weight=10), Step(weight=50)), max_duration=timedelta(days=60))


def _goal(**changes: object) -> KpiTest:
    kpi = Kpi(
        name="hits",
        formula="hits_at_k",
        k=10,
        direction="higher",
        role="goal",
        per="request",
        non_inferiority_margin=0.10,
    )
    (test,) = made_tests([kpi.model_copy(update=changes)], POLICY, independent_outcomes=True)
    return test


def _rows(effect: float, test: KpiTest | None = None, baseline: Baseline = HITS) -> dict[tuple[int, str], Planned]:
    test = test or _goal()
    rows = plan([test], POLICY, {test.kpi: baseline}, {test.kpi: effect}, np.random.default_rng(1))
    return {(row.step, row.decision): row for row in rows}


def test_a_step_that_splits_evenly_and_one_in_pairs_need_less() -> None:
    rows = _rows(0.04)
    assert set(rows) == {(0, "non_inferior"), (1, "non_inferior"), (2, "non_inferior")}
    pairs, tenth, half = (rows[step, "non_inferior"].requests_p50 for step in range(3))
    assert pairs is not None
    assert half is not None
    assert tenth is not None
    assert pairs < half / 2 < tenth / 4
    assert rows[0, "non_inferior"].stage is Stage.SHADOW
    assert rows[1, "non_inferior"].stage is Stage.WEIGHTS


def test_the_retail_promotion_takes_about_what_its_replay_took() -> None:
    row = _rows(0.04)[2, "non_inferior"]
    assert row.requests_p50 == pytest.approx(1600, rel=0.25)
    assert row.requests_p80 is not None
    assert row.requests_p80 == pytest.approx(2600, rel=0.3)
    assert row.units_p50 == pytest.approx(row.requests_p50 / 1.9)
    assert row.days_p50 == pytest.approx(row.requests_p50 / 1.9 / 43)


def test_no_effect_leaves_both_questions_or_one() -> None:
    assert set(_rows(0.0)) == {(step, "non_inferior") for step in range(3)}
    assert set(_rows(-0.05)) == {(step, decision) for step in range(3) for decision in ("non_inferior", "harm")}
    assert set(_rows(-0.2)) == {(step, "harm") for step in range(3)}


def test_undecided_is_the_chance_beyond_the_longest_duration() -> None:
    sure, unsure = _rows(0.04)[2, "non_inferior"], _rows(-0.08)[2, "non_inferior"]
    assert sure.undecided < 0.2
    assert unsure.undecided > 0.9
    assert unsure.days_p50 is None or unsure.days_p50 > 60


def test_a_covariate_saves_its_share() -> None:
    plain, adjusted = _rows(0.04)[2, "non_inferior"], _rows(0.04, _goal(covariate="basket"))[2, "non_inferior"]
    assert plain.requests_p50 is not None
    assert adjusted.requests_p50 == pytest.approx(0.8 * plain.requests_p50, rel=0.05)


def test_a_disaster_stops_at_the_floor_of_burn_in() -> None:
    rows = _rows(-0.97)
    assert rows[1, "harm"].floor_units == pytest.approx(300)
    assert rows[2, "harm"].units_p50 == pytest.approx(60, rel=0.3)
    assert rows[1, "harm"].units_p50 is not None
    assert rows[1, "harm"].units_p50 >= 300


def test_rare_events_raise_the_floor() -> None:
    rare = HITS.model_copy(update={"positive_share": 0.05})
    assert _rows(-0.97, baseline=rare)[2, "harm"].floor_units == pytest.approx(30 / 0.05 / 0.5)


def test_counts_and_calibration_are_planned_too(retail_card: Problem) -> None:
    kpis, policy = retail_card.requirements.kpis, retail_card.operation.rollout
    tests = made_tests(kpis, policy, independent_outcomes=True)
    baselines = {
        "error_rate": Baseline(mean=0.01, variance=99, requests_per_unit=2, units_per_day=500),
        "calibration": Baseline(mean=1.0, variance=0.8, requests_per_unit=9, units_per_day=500),
    }
    rows = plan(tests, policy, baselines, {"error_rate": 2.0, "calibration": 1.7}, np.random.default_rng(2))
    assert [(row.kpi, row.step, row.decision) for row in rows] == [
        (kpi, step, "harm") for step in (0, 1) for kpi in ("calibration", "error_rate")
    ]
    errors = next(row for row in rows if row.kpi == "error_rate" and row.step == 1)
    assert errors.requests_p50 is not None
    assert 500 < errors.requests_p50 < 20_000
    assert errors.requests_p80 is not None
    assert errors.requests_p80 > errors.requests_p50


def test_times_are_those_of_looking_at_every_request() -> None:
    """A walk looked at on an even grid crosses about when the planner's geometric one does."""
    rule, distance, variance = Rule(0.9, 1, 0.05, 0.1), 0.12, 4.0
    geometric = crossings(distance, variance, rule, np.geomspace(60, 60_000, 400), np.random.default_rng(3))
    even = np.arange(60, 12_000, 10.0)
    rng, times = np.random.default_rng(4), []
    for _ in range(400):
        steps = rng.normal(0, np.sqrt(variance * np.diff(even, prepend=0.0)))
        mean = distance + np.cumsum(steps) / even
        over = mean > half_width_one_sided(variance / even, rule.tau, rule.alpha)
        times.append(even[over.argmax()] if over.any() else np.inf)
    assert np.median(geometric) == pytest.approx(np.median(times), rel=0.15)


def test_a_baseline_is_measured_from_moments() -> None:
    moments = made_units(1, 5000, share=0.0).moments()
    baseline = Baseline.of(moments, days=10)
    total = moments.sums.sum(axis=0)
    assert baseline.mean == pytest.approx(total[0] / total[1])
    assert baseline.units_per_day == moments.distinct / 10
    assert baseline.requests_per_day == pytest.approx(total[1] / 10)
    assert baseline.covariate_r2 > 0.3
    assert baseline.positive_share == 1.0
    merged = made_units(1, 5000, share=0.0)
    sums = merged.rows.sum(axis=1)
    residuals = sums[:, 0] - baseline.mean * sums[:, 1]
    expected = (residuals**2).sum() / total[1] / baseline.mean**2
    assert baseline.variance == pytest.approx(expected, rel=1e-3)


def test_too_little_for_a_baseline_is_said() -> None:
    with pytest.raises(DataError, match="no mean"):
        Baseline.of(Moments.zero(()), days=1)


def test_the_requests_of_one_goal_in_one_step() -> None:
    needed = requests_needed(_goal(), HITS, Step(weight=50), np.random.default_rng(5), effect=0.04)
    assert needed.requests_p50 == pytest.approx(_rows(0.04)[2, "non_inferior"].requests_p50, rel=0.1)
    with pytest.raises(DataError, match="not tested for non-inferiority"):
        requests_needed(
            _goal(role="report", non_inferiority_margin=None), HITS, Step(weight=50), np.random.default_rng(5)
        )
