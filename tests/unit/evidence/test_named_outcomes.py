"""`outcome_rate`, `outcome_value`, and clicks by name: any model can be judged by what its users do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_rows import expected_looks, judged_frame, spec_of
from memory_log import DAY, START, MemoryLog, exposure, outcome, scores
from named_outcomes import ERRORS, ONCE, RATE, VALUE, Log, card_with, kpi, looks_of, random_log, reduced

from serinus.core.card import Problem, parse_card
from serinus.core.errors import CardError
from serinus.core.events import Stream
from serinus.core.stats.judge import Judge
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.moments import Moments
from serinus.core.words import Stage
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder
from serinus.replay.report import kpi_figures


@pytest.fixture(params=["retail_card", "renewal_card"])
def card(request: pytest.FixtureRequest) -> Problem:
    """Of either kind, judged by what users do."""
    return card_with(request.getfixturevalue(request.param), RATE, VALUE, ONCE)


def values_of(card: Problem, reducer: KpiReducer) -> dict[tuple[str, str], float]:
    """By exposure and KPI."""
    rows = reducer.rows().to_pylist()
    names = [one.name for one in card.requirements.kpis]
    return {(row["id"], name): row[name] for row in rows for name in names if row[name] is not None}


def expected(card: Problem, log: Log) -> dict[tuple[str, str], float]:
    """The same by a loop."""
    named = [one for one in card.requirements.kpis if one.outcome]
    found = {(of.id, one.name): log.value(one, of) for of in log.exposures for one in named}
    return found | {(of.id, "errors"): float(bool(of.error)) for of in log.exposures}


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), requests=st.integers(1, 60), batches=st.integers(1, 6))
def test_every_value_is_what_a_loop_over_the_log_finds(
    retail_card: Problem, seed: int, requests: int, batches: int
) -> None:
    card, log = card_with(retail_card, RATE, VALUE, ONCE), random_log(seed, requests)
    with reduced(card, log, batches=batches) as reducer:
        assert values_of(card, reducer) == pytest.approx(expected(card, log))


def test_both_kinds_are_judged_without_a_score_of_ours(card: Problem) -> None:
    log = random_log(3, 200)
    with reduced(card, log) as reducer:
        assert values_of(card, reducer) == pytest.approx(expected(card, log))
    assert sum(value > 0 for (_, name), value in expected(card, log).items() if name == "spent") > 20


@pytest.mark.parametrize("name", ["signups", "spent", "any_order"])
def test_looks_are_what_pandas_counts(card: Problem, name: str) -> None:
    log = random_log(4, 300)
    (one,) = (kpi for kpi in card.requirements.kpis if kpi.name == name)
    with reduced(card, log) as reducer:
        rows = [row for row in reducer.rows().to_pylist() if row[name] is not None]
        mine = [look for look in looks_of(card, reducer) if (look.kpi, look.stage) == (name, Stage.WEIGHTS)]
    wanted = expected_looks(judged_frame(rows, one, Stage.WEIGHTS), one)
    assert len(mine) == len(wanted) >= 3
    total = sum((look.increment for look in mine[1:]), mine[0].increment)  # type: ignore[operator]
    assert isinstance(total, Moments)
    for place, cell in enumerate(total.cells):
        np.testing.assert_allclose(total.sums[place], wanted[-1].cells[cell.step, cell.arm], atol=1e-9)
    assert total.distinct == wanted[-1].distinct


def test_the_judge_finds_the_canary_whose_users_do_less(card: Problem) -> None:
    """And a mirrored answer, which no user saw, is judged by none of it."""
    with reduced(card, random_log(5, 1_500, gain=-0.9)) as reducer:
        looks = looks_of(card, reducer)
    kpis = card.requirements.kpis
    judge = Judge(made_tests(kpis, spec_of(kpis).policy, independent_outcomes=True))
    readings = [judge.read(look) for look in looks]
    assert "signups" in {one.kpi for one in readings if one.harm}
    assert {one.kpi: one for one in readings}["any_order"].estimate < -0.3
    assert not any(one.enough for one in readings if one.stage is Stage.SHADOW and one.kpi != "errors")


def test_the_table_has_the_mean_of_all_requests(card: Problem) -> None:
    log = random_log(6, 120)
    with reduced(card, log) as reducer:
        rows = {group.seconds: reducer.rows(group) for group in KpiPlan.of(card).groups}
    found = {(one.revision, one.name): one.estimate for one in kpi_figures(card, rows)}
    by_loop = expected(card, log)
    for (revision, name), estimate in found.items():
        mine = [by_loop[of.id, name] for of in log.exposures if of.revision == revision]
        assert estimate == pytest.approx(np.mean(mine))


def test_an_outcome_by_name_that_comes_too_late_is_counted_as_late(retail_card: Problem, tmp_path: Path) -> None:
    card, log = card_with(retail_card, VALUE), MemoryLog()
    reducer = KpiReducer(log, StateFolder(tmp_path), KpiPlan.of(card))
    log.append(Stream.EXPOSURES, [exposure("r1")])
    log.append(Stream.OUTCOMES, [outcome(f"o{hour}", "r1", at=START + hour * 3600.0, name="order") for hour in (1, 3)])
    assert reducer.reduce(START + DAY).late == 1


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"formula": "outcome_rate"}, "formula outcome_rate needs outcome, the name of the outcomes that count"),
        ({"formula": "outcome_value", "outcome": "order"}, "formula outcome_value needs cap"),
        ({"formula": "log_loss", "outcome": "order"}, "is made of the probability of bought: outcome order"),
        ({"formula": "calibration", "outcome": "order"}, "is made of the probability of bought: outcome order"),
    ],
)
def test_a_card_that_cannot_be_measured_is_told_so(retail_card: Problem, asked: dict[str, str], fault: str) -> None:
    with pytest.raises(CardError) as raised:
        card_with(retail_card, kpi("measured", **asked))
    assert fault in raised.value.cause


def test_clicks_are_counted_by_their_name_where_the_label_is_another(retail_card: Problem, tmp_path: Path) -> None:
    """The model predicts what is bought, and is judged by what is clicked."""
    hits, clicks = kpi("hits", "hits_at_k", k=10, role="report"), kpi("ctr", "ctr", k=2, outcome="click", role="report")
    card, log = card_with(retail_card, RATE, hits, clicks), MemoryLog()
    reducer = KpiReducer(log, StateFolder(tmp_path), KpiPlan.of(card))
    log.append(Stream.SCORES, [scores("r1")])
    log.append(Stream.EXPOSURES, [exposure("r1")])
    events = [outcome("o1", "r1", "a", name="click"), outcome("o2", "r1", "c", name="click"), outcome("o3", "r1", "b")]
    log.append(Stream.OUTCOMES, events)
    reducer.reduce(START + DAY)
    (row,) = (one for one in reducer.rows().to_pylist() if one["ctr_clicks"] is not None)
    assert (row["ctr_clicks"], row["ctr_shown"], row["hits"]) == (1.0, 2.0, 1.0)


def test_a_shadow_alone_can_judge_nothing_of_what_users_do(retail_card: Problem) -> None:
    raw = card_with(retail_card, RATE).model_dump(mode="json", by_alias=True)
    raw["requirements"]["kpis"] = [one for one in raw["requirements"]["kpis"] if one["name"] != ERRORS["name"]]
    with pytest.raises(CardError) as raised:
        parse_card(raw)
    assert "no KPI can be judged" in raised.value.cause
