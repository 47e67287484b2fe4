"""The judge: levels of the tests, readings look by look, guards, and independence from batching."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from serinus.core.card import Problem
from serinus.core.card.operation import Rollout, Step
from serinus.core.errors import DataError
from serinus.core.kpi import Kpi
from serinus.core.stats.judge import Judge, KpiTest
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.moments import Cell, Moments
from serinus.core.stats.reading import Counts, Look, Reading
from serinus.core.words import Arm, Stage

SHADOW_THEN_HALF = Rollout(steps=(Step(shadow=1.0), Step(weight=50)), max_duration=timedelta(days=60))
ONLY_HALF = Rollout(steps=(Step(weight=50),), max_duration=timedelta(days=60))
HITS = Kpi(
    name="hits",
    formula="hits_at_k",
    k=10,
    direction="higher",
    role="goal",
    per="request",
    non_inferiority_margin=0.10,
    tau=0.10,
)
LOSS = Kpi(name="loss", formula="log_loss", direction="lower", role="guardrail", per="request", burn_in_units=60)
ERRORS = Kpi(
    name="errors", formula="error_rate", direction="lower", role="guardrail", per="request", harm_margin=0.1, tau=0.1
)
CALIBRATION = Kpi(
    name="calibration", formula="calibration", direction="lower", role="guardrail", per="request", harm_margin=0.5
)
REVENUE = Kpi(name="revenue", formula="revenue", cap=200, direction="higher", role="guardrail", per="request")
CELLS = (Cell(1, Arm.STABLE), Cell(1, Arm.CANARY))


def test_alpha_is_shared_by_stages_then_by_their_harm_tests(retail_card: Problem) -> None:
    policy = retail_card.operation.rollout
    tests = {t.kpi: t for t in made_tests(retail_card.requirements.kpis, policy, independent_outcomes=True)}
    for stage in Stage:
        spent = sum(test.harm_alpha.get(stage, 0.0) for test in tests.values())
        assert spent == pytest.approx(policy.alpha / 2)
    assert tests["retention"].stages == (Stage.WEIGHTS,)
    assert tests["hits_at_10"].harm_alpha == pytest.approx({Stage.SHADOW: 0.025 / 8, Stage.WEIGHTS: 0.025 / 9})
    assert tests["top_1"].harm_alpha == {}
    assert tests["hits_at_10"].adjust
    assert not tests["log_loss"].adjust
    assert tests["revenue"].min_positive == 200
    assert tests["hits_at_10"].min_positive == 30
    assert (tests["error_rate"].kind, tests["slow_requests"].kind, tests["cold_starts"].kind) == ("count",) * 2 + (
        "ratio",
    )


def test_without_independent_outcomes_shadow_judges_the_answers_alone(retail_card: Problem) -> None:
    tests = made_tests(retail_card.requirements.kpis, retail_card.operation.rollout, independent_outcomes=False)
    assert [t.kpi for t in tests if Stage.SHADOW in t.stages] == ["error_rate", "slow_requests", "cold_starts"]


def test_a_stage_that_tests_nothing_takes_no_alpha() -> None:
    (test,) = made_tests([HITS], SHADOW_THEN_HALF, independent_outcomes=False)
    assert test.harm_alpha == {Stage.WEIGHTS: pytest.approx(0.05)}
    assert made_tests([HITS], ONLY_HALF, independent_outcomes=True) == (test,)


def _units(seed: int, count: int, means: tuple[float, float], step: int = 1) -> Moments:
    """Units on one arm each with a Poisson number of requests at least one, and Poisson hits that vary by unit."""
    rng = np.random.default_rng(seed)
    canary = (rng.random(count) < 0.5).astype(int)
    base = 1.0 + rng.poisson(0.5, count)
    hits = rng.poisson(rng.gamma(8.0, 1 / 8.0, count) * base * np.array(means)[canary])
    rows, seen = np.zeros((count, 2, 3)), np.zeros((count, 2), dtype=bool)
    rows[np.arange(count), canary] = np.stack([hits, base, np.zeros(count)], axis=1)
    seen[np.arange(count), canary] = True
    cells = tuple(Cell(step, cell.arm) for cell in CELLS)
    return Moments.of(cells, rows, seen)


def _look(sequence: int, increment: Moments | tuple[Counts, ...], kpi: str = "hits", **changes: object) -> Look:
    stage = changes.get("stage", Stage.WEIGHTS)
    assert isinstance(stage, Stage)
    return Look(sequence, kpi, sequence, stage, 1, 1000.0 + sequence, 50 * sequence, increment)


def _readings(kpi: Kpi, increments: list[Moments | tuple[Counts, ...]]) -> list[Reading]:
    judge = Judge(made_tests([kpi], ONLY_HALF, independent_outcomes=True))
    return [judge.read(_look(number, one, kpi.name)) for number, one in enumerate(increments, 1)]


def test_a_worse_canary_is_harmed_and_a_good_one_is_not_inferior() -> None:
    worse = _readings(HITS, [_units(seed, 100, (2.0, 1.0)) for seed in range(6)])
    assert worse[-1].harm
    assert not worse[-1].non_inferior
    assert worse[-1].high is not None
    assert worse[-1].high < worse[-1].boundary == 0.0
    good = _readings(HITS, [_units(seed, 400, (2.0, 2.1)) for seed in range(10)])
    assert good[-1].non_inferior
    assert not good[-1].harm
    assert good[-1].low is not None
    assert good[-1].margin == -0.10
    assert good[-1].low > -0.10
    assert good[-1].estimate == pytest.approx(0.05, abs=0.06)


def test_where_lower_is_better_harm_is_above() -> None:
    kpi = LOSS.model_copy(update={"non_inferiority_margin": 0.10})
    worse = _readings(kpi, [_units(seed, 400, (1.0, 1.5)) for seed in range(4)])[-1]
    assert worse.harm
    assert worse.low is not None
    assert worse.low > 0
    assert not worse.non_inferior
    good = _readings(kpi, [_units(seed, 400, (1.0, 0.9)) for seed in range(10)])[-1]
    assert good.non_inferior
    assert good.high is not None
    assert good.high < 0.10 == good.margin


def test_before_burn_in_nothing_is_decided_but_the_estimate_is_shown() -> None:
    first, second = _readings(LOSS, [_units(1, 80, (1.0, 9.0)), _units(2, 80, (1.0, 9.0))])
    assert not first.enough
    assert not first.harm
    assert first.estimate is not None
    assert min(second.units.values()) >= 60
    assert second.enough
    assert second.harm


def test_no_data_is_neither_success_nor_failure() -> None:
    (reading,) = _readings(HITS, [Moments.zero(CELLS)])
    assert reading.estimate is reading.low is reading.high is None
    assert not (reading.enough)
    assert not (reading.harm)
    assert not (reading.non_inferior)


def test_revenue_waits_for_payers() -> None:
    few, many = _readings(REVENUE, [_units(1, 300, (2.0, 0.2)), _units(2, 3000, (2.0, 0.2))])
    assert not few.enough
    assert many.enough
    assert many.harm


def test_rare_events_wait_until_some_are_expected_not_until_they_come() -> None:
    """0.05 positive units a unit: at 160 units four are expected, of 1,600 forty; the canary has none of them."""
    early, late = _readings(HITS, [_units(1, 160, (0.05, 0.0)), _units(2, 1600, (0.05, 0.0))])
    assert min(early.units.values()) >= 30
    assert not early.enough
    assert late.enough
    assert late.harm


def test_rare_events_that_come_too_often_are_judged_at_once() -> None:
    """0.01 on the stable arm, so few are expected; on the canary they are everywhere. Such effects need a large tau."""
    (reading,) = _readings(LOSS.model_copy(update={"tau": 1.0}), [_units(1, 600, (0.01, 1.0))])
    assert reading.enough
    assert reading.harm


def test_a_report_never_decides() -> None:
    reading = _readings(HITS.model_copy(update={"role": "report"}), [_units(1, 2000, (2.0, 0.5))])[-1]
    assert reading.enough
    assert not reading.harm
    assert reading.high is not None
    assert reading.high < 0


def test_a_kpi_that_shadow_cannot_judge_says_nothing_there() -> None:
    (test,) = made_tests([HITS], SHADOW_THEN_HALF, independent_outcomes=False)
    reading = Judge([test]).read(_look(1, _units(1, 2000, (2.0, 0.5)), stage=Stage.SHADOW))
    assert not reading.enough
    assert not reading.harm


def test_stages_are_tests_of_their_own() -> None:
    judge = Judge(made_tests([HITS], SHADOW_THEN_HALF, independent_outcomes=True))
    judge.read(_look(1, _units(1, 2000, (2.0, 1.0)), stage=Stage.SHADOW))
    reading = judge.read(_look(2, _units(2, 100, (2.0, 2.0))))
    assert sum(reading.units.values()) == 100
    assert not reading.harm


def test_calibration_is_judged_by_the_canary_alone() -> None:
    healthy = _readings(CALIBRATION, [_pairs(1, 400, (5.0, 1.1))])[-1]
    broken = _readings(CALIBRATION, [_pairs(1, 400, (1.0, 2.7))])[-1]
    assert not healthy.harm
    assert healthy.estimate == pytest.approx(0.1, abs=0.1)
    assert broken.harm
    assert broken.boundary == 0.5
    assert broken.low is not None
    assert broken.low > 0.5


def _pairs(seed: int, count: int, ratios: tuple[float, float]) -> Moments:
    """One request a unit: predicted sums around ratio times 5, and about 5 observed."""
    rng = np.random.default_rng(seed)
    canary = (rng.random(count) < 0.5).astype(int)
    rows, seen = np.zeros((count, 2, 3)), np.zeros((count, 2), dtype=bool)
    predicted = np.array(ratios)[canary] * rng.normal(5, 1, count)
    rows[np.arange(count), canary, :2] = np.stack([predicted, rng.binomial(100, 0.05, count)], axis=1)
    seen[np.arange(count), canary] = True
    return Moments.of(CELLS, rows, seen)


def _counts(canary: int, stable: int, each: int = 1000) -> tuple[Counts, ...]:
    return (Counts(1, {Arm.CANARY: canary, Arm.STABLE: stable}, {Arm.CANARY: each, Arm.STABLE: each}),)


def test_counts_are_harmed_by_incidents_of_the_canary_only() -> None:
    harmless = _readings(ERRORS, [_counts(10, 10)] * 20)[-1]
    assert not harmless.harm
    assert harmless.estimate == pytest.approx(0.0)
    assert harmless.requests[Arm.CANARY] == 20_000
    harmful = _readings(ERRORS, [_counts(30, 10)] * 5)[-1]
    assert harmful.harm
    assert harmful.low is not None
    assert harmful.low >= harmful.boundary == pytest.approx(0.1)


def test_counts_without_incidents_are_no_evidence() -> None:
    reading = _readings(ERRORS, [_counts(0, 0)])[-1]
    assert reading.enough
    assert not reading.harm
    assert reading.estimate is reading.low is None


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (_look(1, Moments.zero(CELLS), "unknown"), "does not judge"),
        (_look(0, Moments.zero(CELLS)), "came after"),
        (_look(1, _counts(0, 0)), "moments are due"),
        (_look(1, Moments.zero(CELLS), "errors"), "incidents and requests are due"),
    ],
)
def test_a_look_that_does_not_fit_is_refused(look: Look, said: str) -> None:
    judge = Judge(made_tests([HITS, ERRORS], ONLY_HALF, independent_outcomes=True))
    with pytest.raises(DataError, match=said):
        judge.read(look)


def test_readings_do_not_depend_on_how_a_look_was_made_up() -> None:
    parts: list[Moments | tuple[Counts, ...]] = [_units(seed, 100, (2.0, 1.8)) for seed in range(4)]
    whole = _readings(HITS, [sum(parts[1:], parts[0])])[-1]  # type: ignore[arg-type]
    last = _readings(HITS, parts)[-1]
    assert last.model_dump(include={"units", "harm"}) == whole.model_dump(include={"units", "harm"})
    assert last.high == pytest.approx(whole.high, rel=1e-12)


def test_a_test_is_plain_json(retail_card: Problem) -> None:
    tests = made_tests(retail_card.requirements.kpis, retail_card.operation.rollout, independent_outcomes=True)
    assert tuple(KpiTest.model_validate_json(test.model_dump_json()) for test in tests) == tests


@pytest.mark.parametrize("independent", [False, True])
def test_shadow_waits_for_no_kpi_that_shadow_does_not_judge(independent: bool, retail_card: Problem) -> None:
    """A goal that the machine waits for and the judge never reads would hold every rollout in shadow."""
    policy, kpis = retail_card.operation.rollout, retail_card.requirements.kpis
    tests = {test.kpi: test for test in made_tests(kpis, policy, independent_outcomes=independent)}
    for kpi in kpis:
        assert kpi.judged_in_shadow(independent_outcomes=independent) == (Stage.SHADOW in tests[kpi.name].stages)
