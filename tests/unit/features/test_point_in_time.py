"""The as-of join against an oracle in plain Python and against Feast's duckdb store, on random histories."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.features.point_in_time import FeatureRows, Limits, point_in_time

START = pd.Timestamp("2024-01-01")
KEYS, TIMES = st.integers(0, 3), st.integers(0, 12)
EVENTS = st.lists(
    st.tuples(KEYS, KEYS, TIMES, st.integers(0, 3), st.one_of(st.none(), st.integers(-5, 5))), max_size=25
)
ASKED = st.lists(st.tuples(KEYS, KEYS, TIMES), min_size=1, max_size=12)


def _at(hours: int) -> pd.Timestamp:
    return START + pd.Timedelta(hours=hours)


def _events(events: list[tuple[int, int, int, int, int | None]]) -> pd.DataFrame:
    columns = ["user", "item", "event_timestamp", "created", "value"]
    frame = pd.DataFrame([(u, i, _at(t), _at(t + c), v) for u, i, t, c, v in events], columns=columns)
    kinds = {"user": "int64", "item": "int64", "event_timestamp": "datetime64[us]", "created": "datetime64[us]"}
    return frame.astype({**kinds, "value": "float64"})


def _oracle(
    events: list[tuple[int, int, int, int, int | None]], asked: list[tuple[int, int, int]], ttl: int, composite: bool
) -> list[float | None]:
    """For each row: the newest event not later than it, by time, then created time, then position."""
    answers: list[float | None] = []
    for user, item, now in asked:
        seen = [
            (t, t + c, n, v)
            for n, (u, i, t, c, v) in enumerate(events)
            if u == user and (i == item or not composite) and t <= now and (not ttl or t >= now - ttl)
        ]
        newest = max(seen, key=lambda one: one[:3], default=None)
        answers.append(None if newest is None or newest[3] is None else float(newest[3]))
    return answers


def _joined(events: Any, asked: list[tuple[int, int, int]], ttl: int, composite: bool) -> list[float | None]:
    entities = pa.table(
        {
            "user": pa.array([u for u, _, _ in asked], pa.int64()),
            "item": pa.array([i for _, i, _ in asked], pa.int64()),
            "t": pa.array([_at(h) for _, _, h in asked], pa.timestamp("us")),
        }
    )
    keys = {"user": "user", "item": "item"} if composite else {"user": "user"}
    view = FeatureRows(
        rows=pa.Table.from_pandas(_events(events), preserve_index=False), keys=keys, features={"value": "value"},
        timestamp="event_timestamp", created="created", ttl=timedelta(hours=ttl),
    )  # fmt: skip
    return [
        None if value is None or np.isnan(value) else value
        for value in point_in_time(entities, "t", [view], Limits(threads=1))["value"].to_pylist()
    ]


@settings(deadline=None, derandomize=True, max_examples=150)
@given(EVENTS, ASKED, st.sampled_from([0, 3]), st.booleans())
def test_equal_to_the_oracle(events: Any, asked: Any, ttl: int, composite: bool) -> None:
    assert _joined(events, asked, ttl, composite) == _oracle(events, asked, ttl, composite)


def test_the_edge_of_the_ttl_still_counts() -> None:
    events = [(1, 0, 2, 0, 7)]
    assert _joined(events, [(1, 0, 5), (1, 0, 6)], 3, False) == [7.0, None]


def test_a_late_row_counts_from_its_event_time() -> None:
    """Created later, valid earlier: the correction wins for every time from its event on."""
    events = [(1, 0, 2, 0, 1), (1, 0, 2, 3, 9), (1, 0, 1, 3, 5)]
    assert _joined(events, [(1, 0, 1), (1, 0, 2)], 0, False) == [5.0, 9.0]


def test_duplicates_and_order_of_the_asked_rows_stay() -> None:
    events = [(1, 0, 2, 0, 7), (2, 0, 2, 0, 8)]
    assert _joined(events, [(2, 0, 3), (1, 0, 3), (2, 0, 3), (3, 0, 3)], 0, False) == [8.0, 7.0, 8.0, None]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Feast, once with its own duckdb store and once with ours, over the same two views."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    folder = tmp_path_factory.mktemp("oracle")
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    item = Entity(name="item", join_keys=["item"], value_type=ValueType.INT64)
    views = []
    for name, entities, ttl in (("users", [user], 3), ("pairs", [user, item], 0)):
        path = folder / f"{name}.parquet"
        _write(path, _events([(0, 0, 0, 0, 0)]))
        source = FileSource(
            name=f"{name}_source", path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created"
        )
        views.append(
            FeatureView(
                name=name,
                entities=entities,
                ttl=timedelta(hours=ttl),
                source=source,
                schema=[Field(name="value", dtype=Float64)],
            )
        )
    opened: dict[str, Any] = {"folder": folder}
    ours = {"type": "serinus.features.offline_store.DuckDBOfflineStore", "root": "/", "threads": 1}
    for name, offline in (("duckdb", {"type": "duckdb"}), ("ours", ours)):
        config = RepoConfig(
            project=name, provider="local", registry=str(folder / f"{name}.db"), offline_store=offline,
            online_store={"type": "sqlite", "path": str(folder / f"{name}_online.db")},
            entity_key_serialization_version=3,
        )  # fmt: skip
        opened[name] = FeatureStore(config=config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened[name].apply([user, item, *views])
    return opened


def _write(path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(path, index=False, coerce_timestamps="us")


def _retrieve(store: Any, asked: list[tuple[int, int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [(n, u, i, _at(t).tz_localize("UTC")) for n, (u, i, t) in enumerate(asked)],
        columns=["n", "user", "item", "event_timestamp"],
    ).astype({"event_timestamp": "datetime64[us, UTC]"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refs = ["users:value", "pairs:value"]
        found = store.get_historical_features(frame, refs, full_feature_names=True).to_df()
    return found.sort_values("n")[["n", "users__value", "pairs__value"]].reset_index(drop=True)


def _unique(events: Any) -> Any:
    """Feast's own store does not say which of two rows with equal times and created times wins."""
    return list({(u, i, t, c): (u, i, t, c, v) for u, i, t, c, v in events}.values())


@settings(deadline=None, derandomize=True, max_examples=12)
@given(EVENTS.filter(bool), ASKED)
def test_through_feast_equal_to_its_duckdb_store_and_to_the_oracle(
    stores: dict[str, Any], events: Any, asked: Any
) -> None:
    events = _unique([(u, 0, t, c, v) for u, _, t, c, v in events])
    pairs = _unique([(u, i % 2, t, c, v) for u, i, t, c, v in events])
    asked = [(u, i % 2, t) for u, i, t in asked]
    _write(stores["folder"] / "users.parquet", _events(events))
    _write(stores["folder"] / "pairs.parquet", _events(pairs))
    ours, theirs = _retrieve(stores["ours"], asked), _retrieve(stores["duckdb"], asked)
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    expected = [np.nan if one is None else one for one in _oracle(events, asked, 3, False)]
    np.testing.assert_array_equal(ours["users__value"].astype(float), expected)
