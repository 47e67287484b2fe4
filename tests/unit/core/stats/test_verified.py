"""The document of the statistics belongs to this code, and its quick rows come out again."""

from __future__ import annotations

import json

import pytest

from tests.stats import verify
from tests.stats.rows import ROWS


def test_the_document_is_of_this_code_and_its_quick_rows_come_out_again() -> None:
    assert verify.check() == []


def test_all_that_was_measured_is_as_it_must_be() -> None:
    results = json.loads(verify.RESULTS.read_text())
    parts = [row for part in ("rows", "recorded", "rollouts", "power", "decisions") for row in results[part]]
    assert all(row["agrees"] for row in parts)
    assert {row.name for row in ROWS} == {row["name"] for row in results["rows"]}
    assert sum(row["expects"] == "fails" for row in results["rows"] + results["recorded"]) >= 8


def test_a_changed_document_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "SEED", verify.SEED + 1)
    (fault,) = verify.check()
    assert "make verify-stats" in fault


def test_a_row_knows_what_it_must_show() -> None:
    holds = next(row for row in ROWS if row.name == "ramp")
    fails = next(row for row in ROWS if row.name == "ramp_pooled")
    assert holds.limit == pytest.approx(0.0646, abs=1e-4)
    assert holds.agrees(0.06)
    assert not holds.agrees(0.07)
    assert fails.agrees(0.07)
    assert not fails.agrees(0.06)
