"""A new KPI is one object and its test (DESIGN D22): no other module hears of this formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kpi_rows import spec_of
from named_outcomes import RATE, card_with, kpi, looks_of, random_log, reduced

from serinus.cli.evidence import show_result
from serinus.core.card import Problem
from serinus.core.kpi import FORMULAS, Formula, Guards, Kpi, Rows, register
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.stats.judge import Judge
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.words import Stage
from serinus.evidence.plan import KpiPlan
from serinus.replay.report import Figure, ReplayResult, kpi_figures


def _worth_and_count(rows: Rows, _: Kpi) -> tuple[np.ndarray, ...]:
    happened = rows.happened
    return rows.total(happened.request, happened.value), rows.total(happened.request)


ORDER_SIZE = Formula(
    "value_per_outcome",
    _worth_and_count,
    columns=("_worth", "_count"),
    needs_outcomes="all",
    survives_shadow=False,
    guards=Guards(needs=("outcome",), min_positive=5),
    is_share=False,
    least_effect=float("-inf"),
)


@pytest.fixture
def card(retail_card: Problem) -> Iterator[Problem]:
    register(ORDER_SIZE)
    size = kpi("order_size", "value_per_outcome", outcome="order", role="guardrail", harm_margin=0.5)
    yield card_with(retail_card, RATE, size)
    del FORMULAS[ORDER_SIZE.name]


def test_a_registered_formula_goes_from_the_card_to_the_table(
    card: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    log = random_log(11, 400)
    with reduced(card, log, batches=3) as reducer:
        rows = {group.seconds: reducer.rows(group) for group in KpiPlan.of(card).groups}
        looks = looks_of(card, reducer)
    kpis = card.requirements.kpis
    judge = Judge(made_tests(kpis, spec_of(kpis).policy, independent_outcomes=True))
    readings = [one for one in map(judge.read, looks) if one.kpi == "order_size"]
    assert readings[-1].enough
    assert readings[-1].estimate is not None
    assert not any(one.enough for one in readings if one.stage is Stage.SHADOW)

    figures = kpi_figures(card, rows)
    found = {one.revision: one.estimate for one in figures if one.name == "order_size"}
    closed = rows[8 * 3600.0].to_pandas().groupby("revision")[["order_size_worth", "order_size_count"]].sum()
    assert found == pytest.approx(dict(closed["order_size_worth"] / closed["order_size_count"]))
    show_result(_result(figures))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "order_size" in line]
    assert [line[1] for line in lines] == [f"{value:.4g}" for value in found.values()]


def _result(figures: tuple[Figure, ...]) -> ReplayResult:
    return ReplayResult(name="a", visits=400, passes=1, sent=400, failed=0, seconds=1.0, latency_ms={}, kpis=figures)


def test_a_rollout_over_it_is_stored_and_read_by_its_name(card: Problem) -> None:
    spec = spec_of(card.requirements.kpis)
    assert '"formula":"value_per_outcome"' in spec.model_dump_json()
    assert RolloutSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("estimator", "columns"), [("count", ("_a", "_b")), ("calibration", ("",)), ("ratio", ("_a", "_b", "_c"))]
)
def test_columns_that_its_estimator_cannot_read_are_refused(estimator: Any, columns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"columns, which no {estimator} can read"):
        Formula("wrong", _worth_and_count, estimator=estimator, columns=columns)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="there is a formula ctr already"):
        register(Formula("ctr", _worth_and_count))
