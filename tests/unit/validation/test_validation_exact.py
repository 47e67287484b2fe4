"""From a file to the verdict on it, whole numbers keep their digits, times are UTC, and blank text is empty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from serinus.core.errors import DataError
from serinus.core.verdict import Outcome
from serinus.validation.contract import Suite
from serinus.validation.run import Verdict, validate
from serinus.validation.source import read_table

AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
NEAR = [2**53 - 1, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1, -(2**53) - 1, -(2**63), 0, 1]
# An example asks GX many times; it is small already.
QUICK = settings(phases=[Phase.explicit, Phase.generate], max_examples=25, deadline=None)


def read(folder: Path, **columns: pa.Array) -> pd.DataFrame:
    pq.write_table(pa.table(columns), folder / "log.parquet")
    return read_table(folder / "log.parquet", name="data/log.parquet")


def _of(values: list[int | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array([None if one is None else Decimal(one) for one in values], kind)
    return pa.array(values).cast(kind)


def judged(frame: pd.DataFrame, kind: str, *rules: Mapping[str, Any]) -> Verdict:
    raw = {"name": "raw", "columns": {"c": kind}, "rules": [{"column": "c"} | dict(one) for one in rules]}
    return validate(Suite.model_validate(raw), frame, snapshot_time=AT)


def broken(verdict: Verdict) -> list[int]:
    assert all(check.outcome is not Outcome.ERROR for check in verdict.checks), verdict.checks
    return [check.details["broken"] for check in verdict.checks if "broken" in check.details]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (pa.int8(), "int64"), (pa.int64(), "int64"), (pa.uint32(), "int64"), (pa.uint64(), "int64"),
        (pa.decimal128(38, 0), "int64"), (pa.decimal256(50, 0), "int64"), (pa.decimal128(9, 2), "float64"),
        (pa.float32(), "float32"),
    ],
)  # fmt: skip
def test_numbers_have_few_dtypes_with_and_without_nulls(tmp_path: Path, kind: pa.DataType, dtype: str) -> None:
    assert str(read(tmp_path, c=_of([1, 2], kind))["c"].dtype) == dtype
    nulls = read(tmp_path, c=_of([1, None], kind))["c"]
    assert str(nulls.dtype) == dtype.replace("int64", "Int64")
    assert nulls.isna().tolist() == [False, True]


@QUICK
@given(values=st.lists(st.sampled_from(NEAR) | st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1, max_size=8))
@pytest.mark.parametrize("kind", [pa.int64(), pa.decimal128(38, 0)])
def test_ids_keep_every_digit_from_the_file_to_the_verdict(
    tmp_path_factory: pytest.TempPathFactory, kind: pa.DataType, values: list[int | None]
) -> None:
    given_ = pa.array(values, pa.int64()) if pa.types.is_int64(kind) else pa.array(
        [None if one is None else Decimal(one) for one in values], kind
    )  # fmt: skip
    frame = read(tmp_path_factory.getbasetemp(), c=given_)
    assert [None if pd.isna(one) else int(one) for one in frame["c"]] == values
    known = [one for one in values if one is not None]
    if not known:
        return
    some = known[0]
    verdict = _verdict(frame, some, len(set(known)))
    counts = [sum(one != some for one in known), sum(one < some for one in known), sum(one > some for one in known)]
    assert broken(verdict) == [*counts, sum(known.count(one) > 1 for one in known)]
    assert verdict.checks[-1].outcome is Outcome.PASS


def _verdict(frame: pd.DataFrame, some: int, distinct: int) -> Verdict:
    aside = {"quarantine": True, "budget": 1.0}
    rules: list[dict[str, Any]] = [
        {"rule": "one_of", "column": "c", "values": [some], **aside},
        {"rule": "range", "column": "c", "min": some, "name": "least", **aside},
        {"rule": "range", "column": "c", "max": some, "name": "most", **aside},
        {"rule": "unique", "columns": ["c"], **aside},
        {"rule": "distinct", "column": "c", "min": distinct, "max": distinct},
    ]
    suite = Suite.model_validate({"name": "raw", "columns": {"c": "whole"}, "rules": rules})
    return validate(suite, frame, snapshot_time=AT)


def test_the_509_ids_of_the_issue_stay_509(tmp_path: Path) -> None:
    ids = [2**60 + n for n in range(509)]
    frame = read(tmp_path, c=pa.array([*ids, None], pa.int64()))
    assert frame["c"].nunique() == 509
    assert broken(_verdict(frame, ids[0], 509)) == [508, 0, 508, 0]


def test_unsigned_numbers_do_not_turn_negative() -> None:
    frame = pd.DataFrame({"c": pd.Series([2**63, 2**64 - 1, 2**63], dtype="uint64")})
    assert broken(_verdict(frame, 2**63, 2)) == [1, 0, 1, 2]
    assert _verdict(frame, 2**63, 2).checks[-1].outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([2**63], pa.uint64()), "beyond 64 bits"),
        (pa.array([Decimal(2**63)], pa.decimal128(38, 0)), "beyond 64 bits"),
        (pa.array([Decimal("9007199254740993.25")], pa.decimal128(38, 2)), "more digits than a double"),
        (pa.array([2**62], pa.timestamp("ms")), "times that no calendar has"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_column(tmp_path: Path, column: pa.Array, told: str) -> None:
    with pytest.raises(DataError, match=r"data/log\.parquet, column c") as fault:
        read(tmp_path, c=column)
    assert told in fault.value.headline


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Vilnius", "+05:30"])
def test_times_are_utc_without_a_zone(tmp_path: Path, unit: str, zone: str | None) -> None:
    column = pa.array([AT, None], pa.timestamp(unit, tz=zone or "UTC")).cast(pa.timestamp(unit, tz=zone))
    found = read(tmp_path, c=column)["c"]
    assert str(found.dtype) == "datetime64[us]"
    assert found[0] == pd.Timestamp("2024-01-01 12:00")
    assert judged(pd.DataFrame({"c": found}), "time", {"rule": "freshness", "within": "1m"}).checks[-1].holds


def test_days_and_far_times_are_times(tmp_path: Path) -> None:
    days = read(tmp_path, c=pa.array([0, 2_932_896], pa.date32()))["c"]
    assert str(days.dtype) == "datetime64[us]"
    assert str(days[1]) == "9999-12-31 00:00:00"


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u3000"])
def test_text_that_is_blank_is_empty(tmp_path: Path, blank: str) -> None:
    column = pa.array(["a", blank, None])
    for stored in (column, column.cast(pa.large_string()), column.dictionary_encode()):
        assert read(tmp_path, c=stored)["c"].isna().tolist() == [False, True, True]
    # A frame of somebody else's is judged alike.
    frame = pd.DataFrame({"c": ["a", blank, None]})
    empty = {"rule": "not_null", "quarantine": True, "budget": 1.0}
    verdict = judged(frame, "text", empty, {"rule": "regex", "pattern": "a"})
    assert broken(verdict) == [2, 0]
    assert len(verdict.quarantined) == 2


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinity_passes_no_limit(value: float) -> None:
    frame = pd.DataFrame({"c": [1.0, value]})
    for limit in ({"min": -5}, {"max": 5}, {"min": -5, "max": 5}):
        verdict = judged(frame, "number", {"rule": "range", **limit, "quarantine": True, "budget": 1.0})
        assert broken(verdict) == [1]
        assert verdict.quarantined["c"].tolist() == [value]
        for figure in ({"rule": "mean"}, {"rule": "quantile", "q": 0.0 if value < 0 else 1.0}):
            assert judged(frame, "number", figure | limit).checks[-1].outcome is not Outcome.PASS


def test_a_limit_is_finite() -> None:
    for limit in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite"):
            judged(pd.DataFrame({"c": [1.0]}), "number", {"rule": "range", "min": limit})


def test_an_index_of_pandas_is_no_column_and_a_named_one_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"c": [1, 2]}, index=[7, 8])
    frame.to_parquet(tmp_path / "a.parquet")
    assert list(read_table(tmp_path / "a.parquet", name="a").columns) == ["c"]
    frame.rename_axis("id").to_parquet(tmp_path / "b.parquet")
    assert sorted(read_table(tmp_path / "b.parquet", name="b").columns) == ["c", "id"]


@given(st.lists(st.decimals(-(10**13), 10**13, places=2) | st.none(), min_size=1, max_size=20))
def test_a_decimal_is_the_double_that_its_digits_are(
    tmp_path_factory: pytest.TempPathFactory, values: list[Decimal | None]
) -> None:
    found = read(tmp_path_factory.getbasetemp(), c=pa.array(values, pa.decimal128(20, 2)))["c"]
    assert [None if pd.isna(one) else one for one in found] == [None if one is None else float(one) for one in values]


@pytest.mark.parametrize("nested", [[[2**53 + 1, None]], [{"id": 2**53 + 1}, {"id": None}]])
def test_whole_numbers_inside_of_lists_and_structs_keep_their_digits(tmp_path: Path, nested: list[Any]) -> None:
    found = read(tmp_path, c=pa.array(nested))["c"]
    assert (found[0]["id"] if isinstance(found[0], dict) else found[0][0]) == 2**53 + 1


def test_texts_are_read_in_every_layout(tmp_path: Path) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        assert read(tmp_path, c=pa.array(["a", " "], kind))["c"].tolist() == ["a", None]


@pytest.mark.parametrize(
    "column", [pa.array([1], pa.time64("ns")), pa.StringArray.from_buffers(1, *pa.array([b"\xff"]).buffers()[1:])]
)
def test_what_has_no_form_in_a_frame_is_refused_by_its_column(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(DataError, match="column c"):
        read(tmp_path, c=column)


def test_a_table_of_nothing_but_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        read(tmp_path, __index_level_0__=pa.array([1]))
