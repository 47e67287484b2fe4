"""The quarantine and Great Expectations count the same rows, and no row is lost between good and bad."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from serinus.core.verdict import Outcome
from serinus.validation.contract import Suite
from serinus.validation.run import validate

RULES: list[dict[str, Any]] = [
    {"rule": "not_null", "column": "text"},
    {"rule": "regex", "column": "text", "pattern": "a|b+"},
    {"rule": "one_of", "column": "text", "values": ["a", "b\n"]},
    {"rule": "range", "column": "number", "min": -1, "max": 1.5},
    {"rule": "one_of", "column": "number", "values": [0, 1]},
    {"rule": "finite", "columns": ["number", "whole"]},
    {"rule": "range", "column": "time", "min": "2024-01-02"},
    {"rule": "unique", "columns": ["text"]},
    {"rule": "unique", "columns": ["text", "number"]},
    {"rule": "one_of", "column": "flag", "values": [True]},
]
COLUMNS = {"text": "text", "number": "number", "whole": "whole", "time": "time", "flag": "flag"}
TIMES = [None, datetime(2024, 1, 1), datetime(2024, 1, 2), datetime(9999, 12, 31)]
# No shrinking: an example is small already, and each try asks GX again.
QUICK = settings(phases=[Phase.explicit, Phase.generate], max_examples=40)
ROW = st.tuples(
    st.sampled_from([None, "a", "b", "bb", "b\n", "ab", ""]),
    st.sampled_from([None, -1.0, 0.0, 1.0, 1.5, 2.0, float("inf")]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(TIMES),
    st.sampled_from([None, True, False]),
)


def table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    text, number, whole, time, flag = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "text": pd.Series(text, dtype=object),
            "number": pd.Series(number, dtype="float32"),
            "whole": pd.Series(whole, dtype="Int64"),
            "time": pd.Series(pd.array(time, dtype="datetime64[ms]")),
            "flag": pd.Series(flag, dtype=object),
        }
    )


@pytest.mark.slow
@QUICK
@given(st.lists(ROW, min_size=1, max_size=12))
def test_the_quarantine_holds_the_rows_that_gx_counts(rows: list[tuple[Any, ...]]) -> None:
    rules = [rule | {"quarantine": True, "budget": 1.0, "name": f"r{place}"} for place, rule in enumerate(RULES)]
    suite = Suite.model_validate({"name": "raw", "columns": COLUMNS, "rules": rules})
    frame = table(rows)
    verdict = validate(suite, frame, snapshot_time=datetime(2024, 1, 3))
    judged = [check for check in verdict.checks if check.name.startswith("r") and check.name != "rows"]
    assert {check.reason for check in judged if check.outcome is not Outcome.PASS} <= {"there is no value to judge"}
    reasons = verdict.quarantined["_reasons"].str.split("; ")
    for check in judged:
        assert check.details["broken"] == sum(check.name in reason for reason in reasons), check
    places = verdict.quarantined["_row"].to_numpy()
    kept = frame.drop(index=places).reset_index(drop=True)
    pd.testing.assert_frame_equal(verdict.accepted, kept)
    pd.testing.assert_frame_equal(verdict.quarantined[frame.columns], frame.iloc[places].reset_index(drop=True))


@QUICK
@given(st.integers(1, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(0, rows))))
def test_a_budget_is_exact(sizes: tuple[int, int]) -> None:
    rows, broken = sizes
    frame = pd.DataFrame({"x": [-1.0] * broken + [0.5] * (rows - broken)})
    exact = {"rule": "range", "column": "x", "min": 0, "budget": broken / rows, "name": "exact"}
    tighter = exact | {"budget": max(0.0, broken / rows - 1e-6), "name": "tighter"}
    suite = Suite.model_validate({"columns": {"x": "number"}, "rules": [exact, tighter]})
    exact_check, tighter_check = validate(suite, frame, snapshot_time=datetime(2024, 1, 3)).checks[-2:]
    assert exact_check.outcome is Outcome.PASS
    assert tighter_check.outcome is (Outcome.FAIL if broken else Outcome.PASS)
