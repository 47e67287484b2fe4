"""Verdicts: every way in which a source can be wrong is told by its first line; a crash is an error, never bad data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from serinus.core.errors import ContractViolation
from serinus.core.verdict import Check, Outcome, Severity
from serinus.validation import expectations
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


def first_line(verdict: Verdict) -> str:
    with pytest.raises(ContractViolation) as violation:
        verdict.require("shop: data/log.parquet")
    assert violation.value.exit_code == 3
    return str(violation.value)


def test_a_table_that_keeps_its_contract_passes_whole() -> None:
    table = frame()
    verdict = judge(
        table,
        {"rule": "not_null", "column": "id"},
        {"rule": "range", "column": "price", "min": 0, "max": 100, "quarantine": True},
        {"rule": "range", "column": "at", "min": "2023-01-01"},
        {"rule": "regex", "column": "id", "pattern": r"a(\d)"},
        {"rule": "unique", "columns": ["id"]},
        {"rule": "unique", "columns": ["id", "at"]},
        {"rule": "freshness", "column": "at", "within": "2d"},
        {"rule": "distinct", "column": "id", "min": 10, "max": 10},
        {"rule": "mean", "column": "price", "min": 6, "max": 6},
        {"rule": "quantile", "column": "price", "q": 0.5, "min": 6, "max": 6},
        {"rule": "share", "column": "id", "value": "a0", "min": 0.1, "max": 0.1},
        {"rule": "finite"},
        {"rule": "varied"},
        rows={"min": 10, "max": 10},
    )
    assert {check.outcome for check in verdict.checks} == {Outcome.PASS}
    assert len(verdict.checks) == 3 + 2 + 13
    assert verdict.accepted is table
    assert verdict.quarantined.empty
    verdict.require("shop: data/log.parquet")


def test_a_renamed_column() -> None:
    verdict = judge(frame().rename(columns={"price": "unit_price"}), {"rule": "range", "column": "price", "min": 0})
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): column price fail: missing; there is an undeclared "
        "column unit_price (allowed number); 2 more"
    )
    assert only(verdict, "no other columns").measured == "unit_price"
    dependent = only(verdict, "price range")
    assert (dependent.outcome, dependent.reason) == (Outcome.ERROR, "column price is missing")
    assert dependent.line() == "price range error: not evaluated (allowed at least 0): column price is missing"


def test_a_missing_column_that_nothing_resembles() -> None:
    verdict = judge(frame().drop(columns="at"), other_columns="allowed")
    assert first_line(verdict).endswith("column at fail: missing (allowed time)")


def test_negative_prices_over_the_budget() -> None:
    table = frame(price=[-1.0, -2.0, *[1.0] * 8])
    verdict = judge(table, {"rule": "range", "column": "price", "min": 0, "quarantine": True, "budget": 0.1})
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): price range fail: 2 of 10 rows outside, 20% "
        "(allowed at least 0 in all but 10% of rows)"
    )
    assert only(verdict, "price range").details["examples"] == ["-1.0", "-2.0"]


def test_negative_prices_within_the_budget_are_set_aside() -> None:
    table = frame(price=[1.0, -2.0, *[1.0] * 8]).set_index(pd.Index([5] * 10))
    verdict = judge(table, {"rule": "range", "column": "price", "min": 0, "quarantine": True, "budget": 0.1})
    verdict.require("shop: data/log.parquet")
    assert only(verdict, "price range").measured == "1 of 10 rows outside, 10%"
    assert verdict.accepted["id"].tolist() == ["a0", *[f"a{place}" for place in range(2, 10)]]
    assert verdict.quarantined[["id", "_reasons", "_row"]].to_numpy().tolist() == [["a1", "price range", 1]]


def test_a_row_with_several_faults_has_all_its_reasons() -> None:
    table = frame(price=[1.0, -2.0, *[1.0] * 8], id=[None, "b", *[f"a{place}" for place in range(8)]])
    verdict = judge(
        table,
        {"rule": "range", "column": "price", "min": 0, "quarantine": True, "budget": 0.5},
        {"rule": "regex", "column": "id", "pattern": r"a\d", "quarantine": True, "budget": 0.5},
        {"rule": "not_null", "column": "id", "quarantine": True, "budget": 0.5},
        {"rule": "not_null", "column": "price"},
    )
    assert verdict.quarantined["_reasons"].tolist() == ["id not_null", "price range; id regex"]


def test_duplicated_keys() -> None:
    table = frame(id=["a", "a", "a", *"bcdefgh"])
    verdict = judge(table, {"rule": "unique", "columns": ["id", "price"]}, {"rule": "unique", "columns": ["id"]})
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): unique id fail: 3 of 10 rows repeated, 30% "
        "(allowed none)"
    )
    assert only(verdict, "unique id, price").outcome is Outcome.PASS


def test_a_wrong_type() -> None:
    table = frame(price=["1.50"] * 10)
    verdict = judge(
        table,
        {"rule": "range", "column": "price", "min": 0, "quarantine": True},
        {"rule": "not_null", "column": "price"},
    )
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): column price fail: text (allowed number); 1 more"
    )
    assert only(verdict, "price range").reason == "column price is text, not number"
    assert only(verdict, "price not_null").outcome is Outcome.PASS
    assert verdict.quarantined.empty


def test_a_column_that_mixes_kinds() -> None:
    verdict = judge(frame(price=["1.50", *[1.5] * 9]))
    assert only(verdict, "column price").measured == "mixed"
    assert only(verdict, "column price").outcome is Outcome.FAIL


def test_a_stale_snapshot() -> None:
    fresh = {"rule": "freshness", "column": "at", "within": "2d"}
    assert first_line(judge(frame(), fresh, taken=datetime(2024, 1, 20))) == (
        "shop: data/log.parquet breaks its contract (suite raw): at freshness fail: 2024-01-10 00:00 "
        "(allowed 2024-01-18 00:00 to 2024-01-20 00:00)"
    )
    assert only(judge(frame(), fresh, taken=datetime(2024, 1, 12, tzinfo=UTC)), "at freshness").holds


def test_an_empty_table_fails_and_breaks_no_row_rule_silently() -> None:
    verdict = judge(frame().head(0), {"rule": "range", "column": "price", "min": 0}, {"rule": "finite"})
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): rows fail: 0 (allowed at least 1); 2 more"
    )
    assert only(verdict, "price range").reason == "there are no rows"


def test_the_cause_lists_every_stopping_check() -> None:
    verdict = judge(
        frame(id=[None] * 10),
        {"rule": "not_null", "column": "id"},
        {"rule": "distinct", "column": "id", "min": 2},
        {"rule": "mean", "column": "price", "max": 1, "severity": "warning"},
        rows={"min": 11},
    )
    with pytest.raises(ContractViolation) as violation:
        verdict.require("shop: data/log.parquet")
    assert violation.value.cause.splitlines() == [
        "rows fail: 10 (allowed at least 11)",
        "id not_null fail: 10 of 10 rows null, 100% (allowed none)",
        "id distinct fail: 0 (allowed at least 2)",
    ]
    assert violation.value.headline.endswith("; 2 more")


def test_a_failed_warning_does_not_stop() -> None:
    verdict = judge(frame(), {"rule": "mean", "column": "price", "max": 1, "severity": "warning"})
    verdict.require("shop: data/log.parquet")
    assert only(verdict, "price mean").outcome is Outcome.FAIL
    assert only(verdict, "price mean").severity is Severity.WARNING


def test_a_crash_inside_gx_is_an_error_of_its_check_alone() -> None:
    table = frame(id=[["a"]] * 10)  # lists cannot be hashed, so GX cannot tell whether they repeat
    verdict = judge(table, {"rule": "unique", "columns": ["id", "at"]}, {"rule": "mean", "column": "price", "min": 0})
    crashed = only(verdict, "unique id, at")
    assert (crashed.outcome, crashed.measured) == (Outcome.ERROR, "not evaluated")
    assert "unhashable" in crashed.reason
    assert only(verdict, "price mean").outcome is Outcome.PASS


def test_a_crash_of_the_whole_suite_leaves_the_other_checks_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(expectations.gxe.ExpectColumnMeanToBeBetween):  # type: ignore[misc]
        def _validate(self, *args: object, **kwargs: object) -> dict[str, object]:
            raise SystemError("Object of type bool is not JSON serializable")

    monkeypatch.setattr(expectations.gxe, "ExpectColumnMeanToBeBetween", Broken)
    real = expectations.gx.ExpectationSuite

    def raising(**arguments: object) -> object:
        suite = real(**arguments)
        return "no suite at all" if any(isinstance(one, Broken) for one in suite.expectations) else suite

    monkeypatch.setattr(expectations.gx, "ExpectationSuite", raising)
    verdict = judge(frame(), {"rule": "mean", "column": "price", "min": 0}, {"rule": "not_null", "column": "id"})
    assert only(verdict, "price mean").outcome is Outcome.ERROR
    assert "not JSON serializable" in only(verdict, "price mean").reason
    assert only(verdict, "id not_null").outcome is Outcome.PASS


def test_a_critical_error_stops_like_a_failure() -> None:
    verdict = judge(frame(price=[None] * 10), {"rule": "mean", "column": "price", "min": 0})
    assert first_line(verdict) == (
        "shop: data/log.parquet breaks its contract (suite raw): price mean error: not evaluated (allowed at least 0): "
        "there is no value to judge"
    )


def test_checks_are_plain_json() -> None:
    verdict = judge(
        frame(price=[-1.0, *[1.0] * 9]),
        {"rule": "range", "column": "price", "min": 0},
        {"rule": "varied", "max_share": 0.5},
        {"rule": "freshness", "column": "at", "within": "1h"},
    )
    for check in verdict.checks:
        assert Check.model_validate_json(check.model_dump_json()) == check


def test_the_quarantine_file_has_the_rows_with_their_reasons(tmp_path: Path) -> None:
    table = frame(id=["a", "b", 3, *["c"] * 7], price=[1.0, -2.0, -3.0, *[1.0] * 7])
    verdict = judge(table, {"rule": "range", "column": "price", "min": 0, "quarantine": True, "budget": 0.5})
    verdict.write_quarantine(tmp_path / "new" / "quarantine.parquet")
    read = pq.ParquetFile(tmp_path / "new" / "quarantine.parquet").read().to_pandas()
    assert read[["id", "_reasons", "_row"]].to_numpy().tolist() == [["b", "price range", 1], ["3", "price range", 2]]


def test_an_empty_quarantine_is_a_file_too(tmp_path: Path) -> None:
    judge(frame()).write_quarantine(tmp_path / "quarantine.parquet")
    columns = pq.ParquetFile(tmp_path / "quarantine.parquet").schema_arrow.names
    assert columns == ["id", "price", "at", "_reasons", "_row"]


def test_seconds_are_the_clock_s() -> None:
    ticks = iter([10.0, 12.5])
    suite = Suite.model_validate({"columns": COLUMNS})
    assert validate(suite, frame(), snapshot_time=TAKEN, clock=lambda: next(ticks)).seconds == 2.5
