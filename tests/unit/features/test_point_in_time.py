"""The as-of join against an oracle in plain Python and against Feast's duckdb store, on random histories."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.core.errors import DataError, UsageError
from serinus.features.point_in_time import FeatureRows, Limits, point_in_time, rows_between

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


@pytest.mark.slow
@settings(max_examples=100)
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


@settings(max_examples=40)
@given(EVENTS, TIMES, st.integers(0, 12), st.booleans())
def test_rows_of_an_interval_and_the_latest_of_each_key(events: Any, start: int, hours: int, composite: bool) -> None:
    keys = ["user", "item"] if composite else ["user"]
    frame = _events(events).assign(number=np.arange(len(events)))
    view = FeatureRows(
        rows=pa.Table.from_pandas(frame, preserve_index=False), keys={key: key for key in keys},
        features={"number": "number"}, timestamp="event_timestamp", created="created",
    )  # fmt: skip
    ends = _at(start).to_pydatetime(), _at(start + hours).to_pydatetime().replace(tzinfo=UTC)
    found = {latest: rows_between(view, *ends, latest=latest, limits=Limits(threads=1)) for latest in (False, True)}
    inside = [(n, *event) for n, event in enumerate(events) if start <= event[2] <= start + hours]
    assert sorted(found[False]["number"].to_pylist()) == [event[0] for event in inside]
    newest: dict[Any, Any] = {}
    for n, user, item, t, c, _ in inside:
        key = (user, item) if composite else user
        newest[key] = max(newest.get(key, (-1, -1, -1)), (t, t + c, n))
    assert sorted(found[True]["number"].to_pylist()) == sorted(n for _, _, n in newest.values())


def _one(
    at: pa.Array, valid: pa.Array, rows: dict[str, pa.Array] | None = None, key: pa.Array | None = None
) -> pa.Table:
    """Two asked rows against two feature rows of keys 1 and 2."""
    keys = pa.array([1, 2], pa.int64())
    entities = pa.table({"k": keys if key is None else key, "t": at})
    table = pa.table({"k": keys, "ts": valid} | (rows or {"v": pa.array([1.0, 2.0])}))
    features = {name: f"f_{name}" for name in table.column_names if name not in ("k", "ts")}
    return point_in_time(entities, "t", [FeatureRows(table, {"k": "k"}, features, "ts")], Limits(threads=1))


EXACT = pa.array([_at(1), _at(1)], pa.timestamp("us"))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Karachi"])
def test_times_of_every_kind_compare(unit: str, zone: str | None) -> None:
    """Trap: DuckDB has no cast from nanoseconds with a zone, which is what pandas gives by default."""
    times = EXACT.cast(pa.timestamp(unit, tz=zone))
    assert _one(times, EXACT)["f_v"].to_pylist() == [1.0, 2.0]
    assert _one(EXACT, times)["f_v"].to_pylist() == [1.0, 2.0]


def test_null_keys_and_null_times_find_nothing_and_stay() -> None:
    assert _one(EXACT, EXACT, key=pa.array([None, 2], pa.int64()))["f_v"].to_pylist() == [None, 2.0]
    null = pa.array([None, _at(1)], pa.timestamp("us"))
    assert _one(null, EXACT)["f_v"].to_pylist() == [None, 2.0]
    assert _one(EXACT, null)["f_v"].to_pylist() == [None, 2.0]


def test_lists_texts_and_flags_come_through() -> None:
    rows = {
        "list": pa.array([[1.0, None], []], pa.list_(pa.float32())),
        "texts": pa.array([None, ["a", ""]], pa.list_(pa.string())),
        "text": pa.array(["", None]),
        "flag": pa.array([False, None]),
        "at": EXACT.cast(pa.timestamp("ns", tz="UTC")),
    }
    found = _one(EXACT, EXACT, rows)
    for name in ("list", "texts", "text", "flag"):
        assert found[f"f_{name}"].to_pylist() == rows[name].to_pylist(), name
    assert found["f_at"].cast(pa.timestamp("us", tz="UTC")).to_pylist() == [_at(1).tz_localize("UTC")] * 2


def test_no_entity_rows_give_no_rows_with_all_columns() -> None:
    none = pa.array([], pa.timestamp("us"))
    found = point_in_time(
        pa.table({"k": pa.array([], pa.int64()), "t": none}), "t",
        [FeatureRows(pa.table({"k": [1], "ts": [_at(0)], "v": [1.0]}), {"k": "k"}, {"v": "v"}, "ts")],
    )  # fmt: skip
    assert found.column_names == ["k", "t", "v"]
    assert len(found) == 0


def test_little_memory_gives_the_same_and_too_little_is_told() -> None:
    rng, count = np.random.default_rng(1), 200_000
    rows = pa.table(
        {
            "k": rng.integers(0, 500, count),
            "ts": np.datetime64(START, "us") + rng.permutation(count).astype("timedelta64[s]"),
            "v": rng.random(count),
        }
    )
    entities = pa.table({"k": rows["k"], "t": rows["ts"]})
    view = FeatureRows(rows, {"k": "k"}, {"v": "v"}, "ts")
    for memory in ("2GB", "40MB"):
        found = point_in_time(entities, "t", [view], Limits(threads=1, memory=memory))
        assert found["v"].to_numpy().tolist() == rows["v"].to_numpy().tolist(), memory
    with pytest.raises(DataError, match="cannot be joined") as told:
        point_in_time(entities, "t", [view], Limits(threads=1, memory="2MB"))
    assert "memory" in told.value.hint


def test_rows_that_cannot_be_joined_are_told(tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    _write(path, _events([(1, 0, 2, 0, 7)]))
    entities = pa.table({"user": ["one"], "t": EXACT[:1]})
    good = FeatureRows(path, {"user": "user"}, {"value": "value"}, "event_timestamp")
    with pytest.raises(DataError, match="feature rows cannot be joined"):
        point_in_time(entities, "t", [good])
    with pytest.raises(DataError, match=r"it's.parquet lack the columns other"):
        point_in_time(entities, "t", [FeatureRows(path, {"user": "user"}, {"other": "o"}, "event_timestamp")])
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"it's.parquet cannot be read"):
        point_in_time(entities, "t", [good])


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


@settings(max_examples=12)
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
    for column, history, ttl, composite in (("users__value", events, 3, False), ("pairs__value", pairs, 0, True)):
        expected = [np.nan if one is None else one for one in _oracle(history, asked, ttl, composite)]
        np.testing.assert_array_equal(ours[column].astype(float), expected, err_msg=column)


def test_pulling_through_feasts_interface(stores: dict[str, Any]) -> None:
    """What Feast asks of an offline store besides retrieval."""
    events = [(1, 0, 2, 0, 7), (1, 0, 4, 0, 8), (2, 0, 3, 0, None)]
    _write(stores["folder"] / "users.parquet", _events(events))
    store = stores["ours"]
    source, offline = store.get_feature_view("users").batch_source, store._get_provider().offline_store
    ends = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 3, tzinfo=UTC)
    columns = (store.config, source, ["user"], ["value"], "event_timestamp", "created")
    assert offline.pull_latest_from_table_or_query(*columns, *ends).to_df()["user"].tolist() == [1, 2]
    assert len(offline.pull_all_from_table_or_query(*columns, *ends).to_df()) == 2
    assert len(offline.pull_all_from_table_or_query(*columns).to_arrow()) == 3


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("SELECT 1", "need a data frame"),
        (pd.DataFrame({"n": [1], "event_timestamp": [START]}), "entity rows lack the keys"),
        (pd.DataFrame({"user": [1], "item": [1]}), "need a column event_timestamp"),
    ],
    ids=["query", "keys", "time"],
)
def test_entity_rows_that_cannot_be_used_are_told(stores: dict[str, Any], frame: Any, message: str) -> None:
    store = stores["ours"]
    views, refs = [store.get_feature_view("users")], ["users:value"]
    with pytest.raises(UsageError, match=message):
        store._get_provider().offline_store.get_historical_features(
            store.config, views, refs, frame, store.registry, "ours"
        )


def test_on_demand_views_are_refused_and_not_left_out(stores: dict[str, Any]) -> None:
    store = stores["ours"]
    frame = pd.DataFrame({"user": [1], "event_timestamp": [START]})
    views, refs = [store.get_feature_view("users")], ["users:value", "computed:ratio"]
    with pytest.raises(UsageError, match="does not compute computed"):
        store._get_provider().offline_store.get_historical_features(
            store.config, views, refs, frame, store.registry, "ours"
        )
