"""Effects from sums: strata, clusters, pairs, covariate, and bounds that agree with their decisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from unit_rows import CELLS, Units, made_units, unit_sets

from serinus.core.stats.boundary import half_width_one_sided, log_e_one_sided, student
from serinus.core.stats.estimate import Effect, Rule, effect_of, measure, predicted_over_observed
from serinus.core.stats.moments import Cell, Moments
from serinus.core.words import Arm

RULES = st.builds(Rule, st.floats(0.5, 1.5), st.sampled_from([1, -1]), st.floats(1e-3, 0.2), st.floats(0.02, 1.0))


def _same(one: Effect, two: Effect, rel: float = 1e-9) -> None:
    for a, b in zip(
        (one.ratio, one.canary, one.stable, one.both), (two.ratio, two.canary, two.stable, two.both), strict=True
    ):
        assert float(a) == pytest.approx(float(b), rel=rel, abs=1e-14)


@given(unit_sets(), st.integers(0, 1000), st.booleans())
def test_order_and_batches_change_nothing(units: Units, seed: int, adjust: bool) -> None:
    """From raw rows, and from moments of shuffled batches merged."""
    order = np.random.default_rng(seed).permutation(len(units.rows))
    merged = Moments.zero(CELLS)
    for part in np.array_split(order, 1 + seed % 7):
        merged = merged + units.moments(part)
    _same(effect_of(merged, adjust=adjust), effect_of(units.moments(), adjust=adjust))


@given(unit_sets())
def test_moments_survive_their_document_and_subtraction(units: Units) -> None:
    whole, part = units.moments(), units.moments(slice(0, 20))
    _same(effect_of(Moments.from_dict(whole.as_dict())), effect_of(whole))
    _same(effect_of(part + (whole - part)), effect_of(whole))


@given(unit_sets(), RULES)
def test_a_bound_lies_beyond_the_null_exactly_when_it_is_decided(units: Units, rule: Rule) -> None:
    effect = effect_of(units.moments())
    bound, decided = effect.bound(rule)
    distance = rule.side * (float(effect.ratio) - rule.null)
    variance = float(effect.variance(rule.null))
    width = half_width_one_sided(variance, rule.tau, rule.alpha)
    wider = np.sqrt(variance) * student(width / np.sqrt(variance), effect.freedom)
    assert bool(decided) == (distance > wider)
    known = distance * width / wider  # as if the variance were known
    assert bool(decided) == (log_e_one_sided(known, variance, rule.tau) > -np.log(rule.alpha))
    assert bool(decided) == bool(rule.side * (bound - rule.null) > 0)
    assert np.isnan(bound) or rule.side * (float(effect.ratio) - bound) >= 0


@given(st.floats(0.0, 3.0), st.floats(1e-8, 10.0), st.floats(1e-8, 10.0), st.floats(-0.99, 0.99), RULES)
def test_bound_and_decision_agree_for_any_variances(
    ratio: float, one: float, two: float, corr: float, rule: Rule
) -> None:
    effect = Effect(*(np.asarray(v) for v in (ratio, one, two, corr * np.sqrt(one * two), 50.0)))
    bound, decided = effect.bound(rule)
    assert bool(decided) == bool(rule.side * (bound - rule.null) > 0)


def _by_hand(units: Units, rows: NDArray[np.float64]) -> tuple[float, float]:
    """Ratio and variance of ratio - 1 without cross moments: residuals of units, one step, arms apart."""
    mean, parts = {}, {}
    for place, arm in enumerate(("canary", "stable")):
        mine = rows[units.seen[:, place], place]
        mean[arm] = mine[:, 0].sum() / mine[:, 1].sum()
        residuals = mine[:, 0] - mean[arm] * mine[:, 1]
        parts[arm] = (residuals**2).sum() * len(mine) / (len(mine) - 1) / mine[:, 1].sum() ** 2
    return mean["canary"] / mean["stable"], (parts["canary"] + parts["stable"]) / mean["stable"] ** 2


def test_one_step_is_the_delta_method() -> None:
    units = made_units(5, 200, -0.1)
    units.rows[:, 2:], units.seen[:, 2:] = 0.0, False
    effect = effect_of(units.moments())
    ratio, variance = _by_hand(units, units.rows)
    assert float(effect.ratio) == pytest.approx(ratio)
    assert float(effect.variance(1.0)) == pytest.approx(variance)


def test_degrees_of_freedom_are_those_of_the_arm_that_matters() -> None:
    few = made_units(15, 400, share=0.05)
    few.rows[:, 2:], few.seen[:, 2:] = 0.0, False
    units = few.moments().units
    assert units[0] - 1 <= float(effect_of(few.moments()).freedom) < 1.5 * units[0]
    pairs = made_units(15, 400, paired=True)
    pairs.rows[:, 2:], pairs.seen[:, 2:] = 0.0, False
    assert float(effect_of(pairs.moments()).freedom) == pairs.moments().units[0] - 1


def test_pairs_are_judged_by_their_differences() -> None:
    """In shadow the variance of the contrast is that of the units' differences."""
    units = made_units(6, 150, 0.1, paired=True)
    units.rows[:, 2:], units.seen[:, 2:] = 0.0, False
    mine = units.rows[units.seen[:, 0]]
    top, base = mine[:, 0, 0] - mine[:, 1, 0], mine[:, 0, 1]
    residuals = top - top.sum() / base.sum() * base
    mean = mine[:, 1, 0].sum() / base.sum()
    count = len(mine)
    expected = (residuals**2).sum() * count / (count - 1) / base.sum() ** 2 / mean**2
    effect = effect_of(units.moments())
    assert float(effect.variance(1.0)) == pytest.approx(expected)
    assert float(effect.variance(1.0)) < 0.4 * float(effect.canary + effect.stable)


def test_two_identical_arms_in_shadow_are_equal_and_not_inferior() -> None:
    units = made_units(7, 150, paired=True)
    units.rows[:, (0, 2)] = units.rows[:, (1, 3)]
    effect = effect_of(units.moments())
    assert float(effect.ratio) == 1.0
    assert not effect.bound(Rule(1.0, -1, 0.05, 0.1))[1]
    assert not effect.bound(Rule(1.0, 1, 0.05, 0.1))[1]
    assert effect.bound(Rule(0.9, 1, 0.05, 0.1))[1]


def test_a_canary_without_any_value_is_refuted() -> None:
    units = made_units(8, 400)
    units.rows[:, (0, 2), 0] = 0.0
    bound, decided = effect_of(units.moments()).bound(Rule(1.0, -1, 0.05, 0.1))
    assert decided
    assert bound == pytest.approx(0.0, abs=1e-9)


def test_returning_units_are_not_counted_as_new_ones() -> None:
    """The same units in both steps: forgetting that they are the same makes the variance too small."""
    units = made_units(9, 3000)
    both = units.seen[:, :2].any(axis=1) & units.seen[:, 2:].any(axis=1)
    together = Units(units.rows[both], units.seen[both])
    apart = together.moments()
    for row in range(6):
        apart.cross[row, 6:] = 0.0
        apart.cross[6 + row, :6] = 0.0
    assert float(effect_of(together.moments()).variance(1.0)) > 1.3 * float(effect_of(apart).variance(1.0))


def test_steps_are_compared_within_themselves() -> None:
    """The level doubles while the share of the canary rises: pooled it looks like a gain, stratified like nothing."""
    first, second = made_units(10, 20_000, share=0.05), made_units(11, 20_000, share=0.5)
    rows = np.concatenate([first.rows * [[[1], [1], [0], [0]]], second.rows * [[[0], [0], [1], [1]]]])
    seen = np.concatenate([first.seen & [True, True, False, False], second.seen & [False, False, True, True]])
    moments = Units(rows, seen).moments()
    means = [moments.sums[at].sum(axis=0)[0] / moments.sums[at].sum(axis=0)[1] for at in ([0, 2], [1, 3])]
    assert means[0] / means[1] > 1.05
    assert float(effect_of(moments).ratio) == pytest.approx(1.0, abs=0.02)


def test_the_covariate_explains_what_it_explains() -> None:
    units = made_units(12, 4000, 0.03)
    plain, adjusted = effect_of(units.moments()), effect_of(units.moments(), adjust=True)
    assert float(adjusted.variance(1.0)) < 0.5 * float(plain.variance(1.0))
    assert abs(float(adjusted.ratio) - float(plain.ratio)) < 4 * float(np.sqrt(plain.variance(1.0)))
    units.rows[:, :, 2] = 0.0
    _same(effect_of(units.moments(), adjust=True), effect_of(units.moments()))


def test_adjusting_removes_a_chance_imbalance_of_the_covariate() -> None:
    """Values are a function of the covariate alone: whatever the arms drew, the adjusted arms are equal."""
    units = made_units(13, 60)
    units.rows[:, :, 0] = 2.0 * units.rows[:, :, 2] + 5.0 * units.rows[:, :, 1]
    assert abs(float(effect_of(units.moments()).ratio) - 1) > 1e-3
    effect = effect_of(units.moments(), adjust=True)
    assert float(effect.ratio) == pytest.approx(1.0, abs=1e-9)
    assert float(effect.variance(1.0)) < 1e-12


def test_many_data_sets_are_measured_at_once() -> None:
    parts = [made_units(seed, 80, 0.1).moments() for seed in range(4)]
    stacked = [np.stack([getattr(one, name) for one in parts]) for name in ("units", "sums", "cross")]
    together = measure(CELLS, stacked[0], stacked[1], stacked[2], adjust=True)
    for at, one in enumerate(parts):
        _same(
            Effect(
                together.ratio[at], together.canary[at], together.stable[at], together.both[at], together.freedom[at]
            ),
            effect_of(one, adjust=True),
        )


@pytest.mark.parametrize("cells", [(), (Cell(0, Arm.CANARY),), (Cell(0, Arm.CANARY), Cell(1, Arm.STABLE))])
def test_without_both_arms_nothing_is_said(cells: tuple[Cell, ...]) -> None:
    effect = effect_of(Moments.zero(cells), adjust=True)
    bound, decided = effect.bound(Rule(1.0, 1, 0.05, 0.1))
    assert np.isnan(effect.ratio)
    assert np.isnan(bound)
    assert not decided


def test_an_unknown_stable_mean_has_no_bound() -> None:
    """Its own error covers zero, so the ratio has no upper end."""
    effect = Effect(np.asarray(1.0), np.asarray(0.01), np.asarray(0.5), np.asarray(0.0), np.asarray(50.0))
    bound, decided = effect.bound(Rule(1.2, -1, 0.05, 0.1))
    assert np.isnan(bound)
    assert not decided


def test_calibration_is_a_clustered_ratio_of_one_arm() -> None:
    rng = np.random.default_rng(14)
    observed = rng.poisson(5.0, 300).astype(float)
    predicted = 1.2 * observed + rng.normal(0, 1, 300)
    rows = np.zeros((300, 1, 3))
    rows[:, 0, 0], rows[:, 0, 1] = predicted, observed
    moments = Moments.of((Cell(0, Arm.CANARY),), rows, np.ones((300, 1), dtype=bool))
    effect = predicted_over_observed(moments)
    assert float(effect.ratio) == pytest.approx(predicted.sum() / observed.sum())
    contrast = predicted - 1.5 * observed
    assert float(effect.variance(1.5)) == pytest.approx(contrast.var(ddof=1) * 300 / observed.sum() ** 2)
    stable = Moments.of((Cell(0, Arm.STABLE),), rows * 7, np.ones((300, 1), dtype=bool))
    _same(predicted_over_observed(moments + stable), effect)
    assert np.isnan(predicted_over_observed(stable).ratio)
