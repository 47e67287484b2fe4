"""Every formula on three requests worked by hand, as plain numpy columns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from serinus.core.card import parse_card
from serinus.core.kpi import FORMULAS, Happened, Kpi, Rows, Shown
from serinus.core.kpi.ranked import RankedRows

# Of three requests the first showed four items, the second two, and the third failed.
RANKED = RankedRows(
    request=np.array([0, 0, 0, 0, 1, 1]),
    rank=np.array([0, 1, 2, 3, 0, 1]),
    labels=np.array([0.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
    values=np.array([9.0, 3.0, 5.0, 7.0, 2.0, 9.0]),
    requests=3,
)
ROWS = Rows(
    failed=np.array([False, False, True]),
    latency_ms=np.array([5.0, 10.0, 11.0]),
    cold_start=np.array([True, False, False]),
    defaulted=np.array([0.0, 2.0, 0.0]),
    shown=Shown(RANKED, np.array([0.8, 0.5, 0.5, 0.2, 0.5, 0.5])),
    happened=Happened(np.array([0, 0, 2]), np.array([4.0, 5.0, 1.0])),
)
LOSS = [(-np.log(0.2) - 2 * np.log(0.5) - np.log(0.2)) / 4, np.log(2), 0.0]
EXPECTED: dict[str, tuple[list[float], ...]] = {
    "ctr": ([2, 1, 0], [3, 2, 3]),  # a page that stayed empty had its places
    "hits_at_k": ([2, 1, 0],),
    "top_1": ([0, 1, 0],),
    "any_hit_at_k": ([1, 1, 0],),
    "conversion": ([1, 1, 0],),
    "revenue": ([6, 2, 0],),  # 3 + 5, at most 6
    "outcome_rate": ([1, 0, 1],),
    "outcome_value": ([6, 0, 1],),
    "return_within": ([1, 0, 1],),
    "log_loss": (LOSS,),
    "calibration": ([2, 1, 0], [3, 1, 0]),
    "error_rate": ([0, 0, 1],),
    "latency_slo": ([0, 0, 1],),
    "cold_start_share": ([1, 0, 0],),
    "defaulted_share": ([0, 1, 0],),
}
SHARES = {
    "ctr": True, "top_1": True, "any_hit_at_k": True, "conversion": True, "return_within": True, "error_rate": True,
    "latency_slo": True, "cold_start_share": True, "defaulted_share": True, "hits_at_k": False, "revenue": False,
    "log_loss": False, "calibration": False, "outcome_rate": True, "outcome_value": False,
}  # fmt: skip
AMOUNTS = ("revenue", "outcome_value")
FIELDS: dict[str, Any] = {
    "k": 3, "cap": 6.0, "threshold_ms": 10.0, "window": timedelta(days=1), "outcome": "order", "direction": "higher",
    "role": "report", "per": "request",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_turns_requests_into_numbers(name: str) -> None:
    kpi = Kpi.model_validate({"name": "a", "formula": name} | FIELDS)
    found = kpi.formula.of(ROWS, kpi)
    assert len(found) == len(kpi.columns)
    for values, expected in zip(found, EXPECTED[name], strict=True):
        assert values.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_knows_whether_it_is_a_share_and_how_much_of_it_can_be_lost(name: str) -> None:
    assert FORMULAS[name].is_share is SHARES[name]
    assert FORMULAS[name].least_effect == (float("-inf") if name in AMOUNTS else -1.0)


@pytest.mark.parametrize("name", FORMULAS)
def test_without_what_it_needs_a_kpi_is_refused(name: str) -> None:
    for field in FORMULAS[name].guards.needs:
        with pytest.raises(ValueError, match=f"formula {name} needs {field}"):
            Kpi.model_validate({"name": "a", "formula": name} | {k: v for k, v in FIELDS.items() if k != field})


@pytest.mark.parametrize("name", FORMULAS)
def test_a_kpi_is_written_by_the_name_of_its_formula_and_read_back(name: str) -> None:
    kpi = Kpi.model_validate({"name": "a", "formula": name} | FIELDS)
    assert kpi.model_dump(mode="json")["formula"] == name
    assert Kpi.model_validate_json(kpi.model_dump_json()) == kpi
    assert Kpi.model_validate(kpi.model_dump()) == kpi


def test_an_unknown_formula_is_told_with_the_known_ones(retail_card: Any) -> None:
    raw = retail_card.model_dump(mode="json", by_alias=True)
    raw["requirements"]["kpis"][0]["formula"] = "clicks"
    with pytest.raises(Exception, match="1 fault") as raised:
        parse_card(raw)
    assert raised.value.cause.startswith("requirements.kpis[0].formula: clicks is no formula; known: ctr, hits_at_k")


def test_a_kpi_names_the_figure_of_evaluation_that_is_the_same_and_others_name_none(retail_card: Any) -> None:
    hits = next(one for one in retail_card.requirements.kpis if one.formula.name == "hits_at_k")
    assert (hits.metric("bought"), hits.model_copy(update={"k": 5}).metric("bought")) == ("hits_at_10", "hits_at_5")
    assert hits.model_copy(update={"formula": FORMULAS["ctr"]}).metric("bought") == ""
    named = hits.model_copy(update={"outcome": "bought"})
    assert (named.metric("bought"), named.metric("viewed")) == ("hits_at_10", ""), "evaluation knows the label alone"
