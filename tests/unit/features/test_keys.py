"""Ids keep every digit from a problem's tables to the join, offline and online alike; what is no id stops the build."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast_repo import make_store, row

from serinus.core.card import Problem
from serinus.core.errors import DataError
from serinus.features.dataset import Requests
from serinus.features.feast_store import FeastStore
from serinus.features.historical import HistoricalFeatures
from serinus.features.keys import IdKinds
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.point_in_time import FeatureRows, point_in_time
from serinus.features.recorded import checked

NEAR = [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63 - 2, 2**63 - 1, -(2**53) - 1, -(2**63), 0, -5]
DAY = datetime(2024, 1, 6, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> FeastStore:
    made = make_store(tmp_path)
    made.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    return made


def users(keys: Any) -> pd.DataFrame:
    """One row a key, with its place as the value."""
    made = pd.DataFrame([row("user", None, 1, place) for place in range(len(keys))])
    return made.assign(user=keys)


@pytest.mark.parametrize("stored", [np.array(NEAR), pd.array(NEAR, dtype="Int64"), np.array(NEAR, dtype=object)])
def test_ids_that_a_double_would_merge_find_their_own_rows(store: FeastStore, stored: Any) -> None:
    store.write_source("users", users(stored))
    store.apply()
    store.materialize(DAY)
    service = store.service_description("toy_service")
    offline = HistoricalFeatures(store._retrieve, service, "user", "thing").entity_side(
        np.array(NEAR, dtype=object), np.full(len(NEAR), np.datetime64("2024-01-06"))
    )
    online = OnlineReader(SqliteStore(store.online_path, "toy"), service).read("user", list(map(str, NEAR)), DAY)
    for side in (offline, online.side):
        assert side.ids.tolist() == [str(one) for one in NEAR]
        assert side.columns["users:i32"].tolist() == list(range(len(NEAR)))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([1.0, 2.0], "float (1.0)"),
        (pd.array([1, None], dtype="Int64"), "NAType"),
        ([1, 2**63], "64 bits"),
        (["12", "012"], "no leading zero"),
        ([2, True], "not a flag"),
        ([1, Decimal(2)], "Decimal"),
    ],
)
def test_rows_with_keys_that_are_no_ids_are_refused(store: FeastStore, keys: Any, told: str) -> None:
    with pytest.raises(DataError, match="values of user that are no ids") as fault:
        store.write_source("users", users(pd.Series(keys, dtype=object) if isinstance(keys, list) else keys))
    assert told in fault.value.cause


@pytest.mark.parametrize("key", [" a", "a ", "", None, "a\u200b", "e\u0301", 1.5])
def test_text_keys_out_of_their_form_are_refused(store: FeastStore, key: object) -> None:
    with pytest.raises(DataError, match="values of thing that are no ids"):
        store.write_source("things", pd.DataFrame([row("thing", key, 1, 1)]))


def test_whole_numbers_under_a_text_key_are_text(store: FeastStore) -> None:
    store.write_source("things", pd.DataFrame([row("thing", 12, 1, 1)]))
    store.write_source("users", users([1]))
    store.apply()
    source = HistoricalFeatures(store._retrieve, store.service_description("toy_service"), "user", "thing")
    found = source.item_side(np.array(["12", 12], dtype=object), np.full(2, np.datetime64("2024-01-02")))
    assert found.columns["things:i32"].tolist() == [1.0, 1.0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no ids"):
        source.item_side(np.array(["12", 12.0], dtype=object), np.full(2, np.datetime64("2024-01-02")))


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (pa.array([12]), pa.array(["012"])),
        (pa.array([2**53 + 1]), pa.array([float(2**53)])),
        (pa.array([1.5]), pa.array([1.5])),
    ],
)
def test_keys_of_two_types_are_not_joined(asked: pa.Array, kept: pa.Array) -> None:
    at = pa.array([datetime(2024, 1, 1)])
    view = FeatureRows(pa.table({"k": kept, "x": [1], "at": at}), {"k": "k"}, {"x": "x"}, "at")
    with pytest.raises(DataError, match="cannot be joined by k"):
        point_in_time(pa.table({"k": asked, "at": at}), "at", [view])


KINDS = IdKinds("INT64", "INT64", "STRING")


def requests(**columns: Any) -> Requests:
    asked = {
        "request_id": ["r1", "r2"],
        "entity": [2**53 + 1, 7],
        "unit": [str(2**53 + 1), "7"],
        "as_of": pd.to_datetime(["2024-01-01", "2024-01-02"]),
    }
    rows = {"request": [0, 1], "item": ["a", "b"], "label": [0, 1], "value": [0.0, 2.0]}
    frames = pd.DataFrame(asked | {n: v for n, v in columns.items() if n in asked}), pd.DataFrame(
        rows | {n: v for n, v in columns.items() if n in rows}
    )  # fmt: skip
    return Requests(*frames)


def test_recorded_requests_pass_as_they_are_but_for_the_zone_of_their_times(retail_card: Problem) -> None:
    for times in (
        pd.to_datetime(["2024-01-01", "2024-01-02"]).as_unit("ns"),
        pd.to_datetime(["2024-01-01 02:00", "2024-01-02 02:00"]).tz_localize("Europe/Vilnius"),
    ):
        found = checked(requests(as_of=times), retail_card, KINDS).requests
        assert str(found["as_of"].dtype) == "datetime64[us]"
        assert found["as_of"].tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")]
    assert found["entity"].tolist() == [2**53 + 1, 7]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"entity": [1.0, 7.0]}, "entity that are no ids"),
        ({"unit": ["07", "7"]}, "unit that are no ids"),
        ({"item": ["a ", "b"]}, "item that are no ids"),
        ({"request_id": ["r1", ""]}, "request_id that are no ids"),
        ({"as_of": pd.DatetimeIndex(["2024-01-01", "NaT"])}, "no times"),
        ({"label": [0, None]}, "neither 0 nor 1"),
        ({"label": [0, 2]}, "neither 0 nor 1"),
        ({"value": [0, float("inf")]}, "no finite numbers"),
    ],
)
def test_what_breaks_training_is_told_with_its_requests(
    retail_card: Problem, columns: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told) as fault:
        checked(requests(**columns), retail_card, KINDS)
    if told in ("neither 0 nor 1", "no finite numbers"):
        assert "request r2" in fault.value.cause
