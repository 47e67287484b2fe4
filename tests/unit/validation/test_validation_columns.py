"""The kind of a column is a matter of its values."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from serinus.validation.columns import as_floats, is_numeric, kind_of, naive_utc, plain
from serinus.validation.plan import dominant_share


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series(["a", None]), "text"),
        (pd.Series(["a", "b"], dtype="category"), "text"),
        (pd.Series(["a", None], dtype="string"), "text"),
        (pd.Series([1, 2], dtype="int32"), "whole"),
        (pd.Series([1, None], dtype="Int64"), "whole"),
        (pd.Series([1.0, np.nan, 3.0]), "whole"),
        (pd.Series([1.0, 2.5], dtype="float32"), "number"),
        (pd.Series([np.inf, np.nan]), "number"),
        (pd.Series([Decimal("1.5"), None]), "number"),
        (pd.Series([1, 2.5, None], dtype=object), "number"),
        (pd.Series([True, False]), "flag"),
        (pd.Series([True, None]), "flag"),
        (pd.Series([dt.date(2024, 1, 1), None]), "time"),
        (pd.Series(pd.to_datetime(["2024-01-01"], utc=True)), "time"),
        (pd.Series([np.nan, np.nan]), "empty"),
        (pd.Series([None, None]), "empty"),
        (pd.Series([], dtype=object), "empty"),
        (pd.Series(["a", 1]), "mixed"),
        (pd.Series([b"a"]), "mixed"),
        (pd.Series([[1], [2]]), "mixed"),
        (pd.Series([1 + 2j]), "mixed"),
    ],
)
def test_kind_of(values: pd.Series, kind: str) -> None:
    assert kind_of(values) == kind


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pd.Series([1], dtype="int8"), "int64"),
        (pd.Series([1, None], dtype="Int32"), "float64"),
        (pd.Series([1.5], dtype="float32"), "float64"),
        (pd.Series([Decimal("1.5"), None]), "float64"),
        (pd.Series(["a"], dtype="category"), "object"),
        (pd.Series(["a"], dtype="string"), "object"),
        (pd.Series(pd.to_datetime(["2024-01-01"]).as_unit("ms")), "datetime64[ns]"),
        (pd.Series([dt.date(2024, 1, 1), None]), "datetime64[ns]"),
        (pd.Series([True]), "bool"),
    ],
)
def test_plain_has_few_dtypes(values: pd.Series, dtype: str) -> None:
    assert str(plain(values).dtype) == dtype
    assert plain(values).isna().tolist() == values.isna().tolist()


def test_plain_times_are_utc_and_keep_their_order_beyond_the_range_of_nanoseconds() -> None:
    there = pd.Series(pd.to_datetime(["2024-01-01 02:00"]).tz_localize("Europe/Vilnius"))
    assert plain(there).tolist() == [pd.Timestamp("2024-01-01 00:00")]
    far = pd.Series(np.array(["9999-12-31", "2024-01-01", "0001-01-01", "NaT"], dtype="datetime64[ms]"))
    newest, now, oldest, nothing = plain(far)
    assert newest > pd.Timestamp("2261-01-01") > now > pd.Timestamp("1679-01-01") > oldest
    assert pd.isna(nothing)


def test_plain_forgets_the_index() -> None:
    assert plain(pd.Series([1, 2], index=[7, 7])).index.tolist() == [0, 1]


def test_numbers_are_numbers_and_flags_are_not() -> None:
    assert [is_numeric(pd.Series(values)) for values in ([1], [1.5], [True], ["a"])] == [True, True, False, False]
    assert np.isnan(as_floats(pd.Series([1, None], dtype="Int64"))).tolist() == [False, True]


def test_a_moment_is_read_in_utc() -> None:
    moment = dt.datetime(2024, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert naive_utc(moment) == naive_utc(dt.datetime(2024, 1, 1)) == pd.Timestamp("2024-01-01")


@pytest.mark.parametrize(
    ("values", "share"),
    [([7, 7, 7, 1], 0.75), ([1, 7, 7, 7], 0.75), ([np.nan, np.nan, 1], 2 / 3), ([3], 1.0), ([1, 1, 2, 2, 2], 0.6)],
)
def test_the_dominant_share_of_a_value_in_over_half_of_the_rows(values: list[float], share: float) -> None:
    assert dominant_share(np.array(values, dtype=np.float64)) == pytest.approx(share)
