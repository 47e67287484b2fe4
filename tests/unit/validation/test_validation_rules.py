"""Rules measure what they say, however the values are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from serinus.core.verdict import Check, Outcome
from serinus.validation.contract import Suite
from serinus.validation.run import Verdict, validate

COLUMNS = {"id": "text", "price": "number", "at": "time"}
TAKEN = datetime(2024, 1, 10)


def frame(**columns: object) -> pd.DataFrame:
    base = {
        "id": [f"a{place}" for place in range(10)],
        "price": [1.5 + place for place in range(10)],
        "at": pd.date_range("2024-01-01", periods=10, freq="D"),
    }
    return pd.DataFrame(base | columns)


def judge(table: pd.DataFrame, *rules: Mapping[str, Any], taken: datetime = TAKEN, **suite: object) -> Verdict:
    raw = {"name": "raw", "columns": COLUMNS, "rules": list(rules)} | suite
    return validate(Suite.model_validate(raw), table, snapshot_time=taken)


def only(verdict: Verdict, name: str) -> Check:
    (check,) = [check for check in verdict.checks if check.name == name]
    return check


def test_rows_newer_than_the_snapshot_are_not_fresh() -> None:
    verdict = judge(frame(), {"rule": "freshness", "column": "at", "within": "9d"}, taken=datetime(2024, 1, 9))
    assert only(verdict, "at freshness").outcome is Outcome.FAIL


def test_a_check_of_no_value_is_an_error() -> None:
    table = frame(price=[None] * 10)
    verdict = judge(
        table,
        {"rule": "mean", "column": "price", "min": 0},
        {"rule": "quantile", "column": "price", "q": 0.5, "min": 0},
        {"rule": "share", "column": "price", "value": 1, "min": 0},
        {"rule": "range", "column": "price", "min": 0},
        {"rule": "unique", "columns": ["price"]},
    )
    assert [check.reason for check in verdict.checks[-5:]] == ["there is no value to judge"] * 5


def test_two_rules_that_ask_the_same_get_both_their_answers() -> None:
    one = {"rule": "not_null", "column": "id"}
    verdict = judge(frame(), one, one | {"name": "ids are there", "quarantine": True})
    assert [check.outcome for check in verdict.checks[-2:]] == [Outcome.PASS, Outcome.PASS]


def test_a_quantile_is_judged() -> None:
    verdict = judge(frame(), {"rule": "quantile", "column": "price", "q": 0.9, "max": 5})
    check = only(verdict, "price quantile 0.9")
    assert (check.outcome, check.measured, check.allowed) == (Outcome.FAIL, "9.6", "at most 5")


def test_a_statistic_of_some_rows() -> None:
    table = frame(id=["x"] * 5 + ["y"] * 4 + [None])
    verdict = judge(
        table,
        {"rule": "mean", "column": "price", "where": {"id": "y"}, "min": 8, "max": 8},
        {"rule": "share", "column": "price", "value": 6.5, "where": {"id": "y"}, "min": 0.25, "max": 0.25},
    )
    assert [check.line() for check in verdict.checks[-2:]] == [
        "price mean where id = y pass: 8 (allowed 8 to 8)",
        "price share of 6.5 where id = y pass: 25% (allowed 25% to 25%)",
    ]


def test_numbers_that_are_not_finite_are_told_by_column() -> None:
    table = frame(x=np.array([np.nan, *[1.0] * 9], dtype=np.float32), y=[1.0, np.inf, *[1.0] * 8])
    verdict = judge(table, {"rule": "finite"}, other_columns="allowed")
    check = only(verdict, "finite")
    assert (check.outcome, check.measured) == (Outcome.FAIL, "2 of 10 rows not finite (x, y), 20%")
    assert check.details["columns"] == {"x": 1, "y": 1}


def test_an_input_that_became_its_default_everywhere_is_found() -> None:
    verdict = judge(frame(x=[0.0] * 10), {"rule": "varied", "max_share": 0.9}, other_columns="allowed")
    check = only(verdict, "varied")
    assert (check.outcome, check.measured) == (Outcome.FAIL, "100% in x")


def test_rules_about_all_numbers_need_one() -> None:
    verdict = judge(frame().drop(columns="price"), {"rule": "varied"}, columns={"id": "text", "at": "time"})
    assert only(verdict, "varied").reason == "the table has no numeric column"


def test_kinds_stored_in_other_ways_are_judged_alike() -> None:
    table = pd.DataFrame(
        {
            "id": pd.Series([f"a{place}" for place in range(10)], dtype="category"),
            "price": pd.Series([1, None, *range(8)], dtype="Int64"),
            "at": pd.date_range("2024-01-01", periods=10, freq="D", tz="UTC").as_unit("ms"),
        }
    )
    verdict = judge(
        table,
        {"rule": "regex", "column": "id", "pattern": r"a\d"},
        {"rule": "one_of", "column": "id", "values": [f"a{place}" for place in range(9)], "budget": 0.1},
        {"rule": "range", "column": "price", "min": 0, "max": 7},
        {"rule": "range", "column": "at", "min": "2024-01-01", "max": "2024-01-10T00:00:00+00:00"},
        {"rule": "not_null", "column": "price", "budget": 0.1},
        {"rule": "freshness", "column": "at", "within": "1h"},
        {"rule": "finite", "budget": 0.1},
    )
    assert [check.line() for check in verdict.checks if not check.holds] == []
