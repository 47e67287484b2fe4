"""The online store as the reader sees it: equal to offline and to Feast's client, with expiry and unknown entities."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast_repo import TYPES, make_store, row

from serinus.core.errors import Unavailable
from serinus.features.batch import Column, Ragged, Side
from serinus.features.clock import lookup_time
from serinus.features.feast_store import FeastStore
from serinus.features.historical import HistoricalFeatures
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.value_proto import decode, decode_fixed

NOON = datetime(2024, 1, 6, 12, tzinfo=UTC)  # day 5
MANY = 1200  # keys, more than one query takes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeastStore:
    """Users 1 to 4 and things with a history, nulls, a row from the future, and many more things."""
    made = make_store(tmp_path_factory.mktemp("feast"))
    nulls = dict.fromkeys(TYPES)
    users = [row("user", 1, 0, 1), row("user", 1, 4, 2), row("user", 2, 5, 3), row("user", 2, 6, 4)]
    users += [row("user", 3, 1, 5, **nulls), row("user", 4, 1, 0, f32=np.nan, f64=np.nan, f32s=[], texts=[])]
    things = [row("thing", "a", 5, 6), row("thing", "b", 2, 7), row("thing", "c", 1, 8), row("thing", "ü", 5, 9)]
    things += [row("thing", f"t{number}", 5, number) for number in range(MANY)]
    made.write_source("users", pd.DataFrame(users))
    made.write_source("things", pd.DataFrame(things))
    made.apply()
    made.materialize(NOON)
    return made


def _reader(store: FeastStore, path: Path | None = None) -> OnlineReader:
    return OnlineReader(SqliteStore(path or store.online_path, "toy"), store.service_description("toy_service"))


def _same(left: Column, right: Column) -> bool:
    if isinstance(left, Ragged) and isinstance(right, Ragged):
        return np.array_equal(left.offsets, right.offsets) and np.array_equal(left.values, right.values)
    if isinstance(left, Ragged) or isinstance(right, Ragged):
        return False
    if left.dtype == object:
        return left.tolist() == right.tolist()
    return np.array_equal(left, right, equal_nan=True)


def _offline(store: FeastStore, entity: str, ids: list[object]) -> Side:
    source = HistoricalFeatures(store._retrieve, store.service_description("toy_service"), "user", "thing")
    days = np.full(len(ids), np.datetime64(lookup_time(NOON).date()))
    find = source.entity_side if entity == "user" else source.item_side
    return find(np.array(ids, dtype=object), days)


@pytest.mark.parametrize(
    ("entity", "ids"),
    [
        ("user", [1, 2, 3, 4, 99, 1]),
        ("thing", ["a", "b", "c", "ü", "unknown", *(f"t{number}" for number in range(MANY))]),
    ],
    ids=["users", "things"],
)
def test_online_equals_offline_for_every_feature(store: FeastStore, entity: str, ids: list[object]) -> None:
    online = _reader(store).read(entity, [str(one) for one in ids], NOON).side
    offline = _offline(store, entity, ids)
    assert set(online.columns) == set(offline.columns)
    assert len(online.columns) == len(TYPES)
    for name in online.columns:
        assert _same(online.columns[name], offline.columns[name]), name


def test_several_entities_are_read_as_they_are_one_by_one(store: FeastStore) -> None:
    reader = _reader(store)
    together = reader.read_together({"user": ["1", "99"], "thing": ["a", "c"]}, NOON)
    for entity, found in together.items():
        alone = reader.read(entity, found.side.ids.tolist(), NOON)
        assert alone.status == found.status
        assert all(_same(alone.side.columns[name], found.side.columns[name]) for name in alone.side.columns)


def test_status_and_times_of_each_row(store: FeastStore) -> None:
    found = _reader(store).read("thing", ["a", "b", "c", "unknown"], NOON)
    assert found.status["things"] == ("found", "found", "expired", "missing")  # 0, 3 and 4 days old, ttl 3 days
    days = [(time - datetime(2024, 1, 1, tzinfo=UTC).timestamp()) / 86_400 for time in found.event_times["things"][:3]]
    assert days == [5, 2, 1]
    assert np.isnan(found.event_times["things"][3])
    assert np.isnan(found.side.columns["things:f32"]).tolist() == [False, False, True, True]


def test_expiry_counts_from_the_midnight_of_the_request(store: FeastStore) -> None:
    """The same day gives the same answer, whatever the hour."""
    last, next_day = datetime(2024, 1, 6, 23, 59, 59, tzinfo=UTC), datetime(2024, 1, 7, tzinfo=UTC)
    assert _reader(store).read("thing", ["b"], last).status["things"] == ("found",)
    assert _reader(store).read("thing", ["b"], next_day).status["things"] == ("expired",)


def test_a_key_of_the_wrong_type_is_unknown(store: FeastStore) -> None:
    assert _reader(store).read("user", ["1", "not-a-number", str(2**70)], NOON).status["users"] == (
        "found", "missing", "missing",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """A value of Feast's client as ours: times as epoch seconds, flags as numbers, no list as an empty one."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.timestamp()
    return value if isinstance(value, str) or value is None else float(value)


def test_values_equal_those_of_feasts_client(store: FeastStore) -> None:
    refs, keys = [f"users:{name}" for name in TYPES], [1, 2, 3, 4, 99]
    theirs = store._feast.get_online_features(refs, [{"user": key} for key in keys]).to_dict()
    ours = _reader(store).read("user", [str(key) for key in keys], NOON).side.columns
    for name in TYPES:
        column = ours[f"users:{name}"]
        if isinstance(column, Ragged):
            parts = zip(column.offsets[:-1], column.offsets[1:], strict=True)
            assert [column.values[a:b].tolist() for a, b in parts] == [_plain(one) or [] for one in theirs[name]], name
        else:
            values = [None if one is None or one != one else one for one in column.tolist()]
            assert values == [_plain(one) for one in theirs[name]], name


def test_a_read_sees_one_store_while_stores_are_replaced(tmp_path: Path) -> None:
    """Both views of each store carry its number; a reader that mixed two would see them differ."""
    made, kept = make_store(tmp_path), []
    made.apply()
    for number in (1, 2):
        made.write_source("users", pd.DataFrame([row("user", 1, 0, number)]))
        made.write_source("things", pd.DataFrame([row("thing", "a", 0, number)]))
        made.materialize(datetime(2024, 1, 2, tzinfo=UTC))
        kept.append(Path(shutil.copy(made.online_path, tmp_path / f"{number}.db")))
    done = threading.Event()

    def replace() -> None:
        for turn in range(200):
            Path(shutil.copy(kept[turn % 2], tmp_path / "next.db")).replace(made.online_path)
        done.set()

    reader, seen = _reader(made), []
    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set() or not seen:
        found = reader.read_together({"user": ["1"], "thing": ["a"]}, datetime(2024, 1, 2, tzinfo=UTC))
        seen.append((found["user"].side.columns["users:i32"][0], found["thing"].side.columns["things:i32"][0]))
    writer.join()
    assert set(seen) <= {(1.0, 1.0), (2.0, 2.0)}
    last = reader.read("user", ["1"], datetime(2024, 1, 2, tzinfo=UTC)).side.columns["users:i32"]
    assert isinstance(last, np.ndarray)
    assert last[0] == 2.0  # and the last replacement is seen


def test_each_thread_reads_by_a_connection_of_its_own(store: FeastStore) -> None:
    reader, found = _reader(store), []
    threads = [threading.Thread(target=lambda: found.append(reader.read("user", ["1"], NOON).status)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [{"users": ("found",)}] * 4


def test_a_path_may_hold_any_character(store: FeastStore, tmp_path: Path) -> None:
    path = Path(shutil.copy(store.online_path, tmp_path / "on#line?100%.db"))
    assert _reader(store, path).read("user", ["1"], NOON).status["users"] == ("found",)


def test_the_reader_cannot_write(store: FeastStore) -> None:
    reader = SqliteStore(store.online_path, "toy")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection().execute("DELETE FROM toy_users")


def test_a_store_that_cannot_be_read_is_told(store: FeastStore, tmp_path: Path) -> None:
    damaged, other = tmp_path / "damaged.db", tmp_path / "other.db"
    damaged.write_bytes(b"not a database" * 100)
    sqlite3.connect(other).close()
    other.touch()
    for path, message in (
        (tmp_path / "none.db", "no online store of toy yet"),
        (damaged, "damaged.db cannot be read"),
        (other, "other.db cannot be read"),
    ):
        with pytest.raises(Unavailable, match=message) as told:
            _reader(store, path).read("user", ["1"], NOON)
        assert "serinus features materialize toy" in told.value.hint


def test_the_reader_needs_neither_feast_nor_pandas() -> None:
    import subprocess

    code = "import sys, serinus.features.online; print([m for m in ('feast', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_type_is_decoded_as_feast_encodes_it() -> None:
    from feast.protos.feast.types.Value_pb2 import Null, Value

    assert decode(Value(int64_val=-5).SerializeToString()) == -5
    assert decode(Value(bool_val=False).SerializeToString()) is False
    assert decode(Value(bytes_val=b"\x00").SerializeToString()) == b"\x00"
    assert decode(Value(unix_timestamp_val=7).SerializeToString()) == 7
    assert decode(Value(string_val="").SerializeToString()) == ""
    assert decode(Value(null_val=Null.NULL).SerializeToString()) is None
    assert decode(Value().SerializeToString()) is None
    assert decode(None) is None
    for kind in ("string", "int32", "int64", "double", "float", "bool", "unix_timestamp", "bytes"):
        value = Value()
        sample = {"string": ["a", ""], "bool": [True, False], "bytes": [b"x"]}.get(kind, [1, 0, 2])
        getattr(value, f"{kind}_list_val").val.extend(sample)
        assert decode(value.SerializeToString()) == sample, kind


@pytest.mark.parametrize(("kind", "field"), [("Float64", "double_val"), ("Float32", "float_val")])
def test_a_column_of_numbers_is_decoded_as_each_of_them(kind: str, field: str) -> None:
    from feast.protos.feast.types.Value_pb2 import Null, Value

    numbers = [0.0, -0.0, 1.5, -2.0e20, float("inf"), 1e-30]
    raws = [Value(**{field: one}).SerializeToString() for one in numbers]
    raws += [None, b""]
    found = decode_fixed(raws, kind)
    expected = [np.nan if (value := decode(raw)) is None else value for raw in raws]
    assert found is not None
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float64))
    for other in (Value(int64_val=5), Value(null_val=Null.NULL), Value(string_val="x" * 3), Value(string_val="x" * 7)):
        assert decode_fixed([*raws, other.SerializeToString()], kind) is None
    assert decode_fixed(raws, "Int64") is None
    nothing = decode_fixed([None, None], kind)
    assert nothing is not None
    assert np.isnan(nothing).all()


def test_the_time_of_a_lookup_is_the_midnight_that_begins_its_day() -> None:
    new_york = datetime(2024, 1, 5, 22, tzinfo=UTC).astimezone(tz=_zone(-5))
    assert lookup_time(NOON) == datetime(2024, 1, 6, tzinfo=UTC)
    assert lookup_time(NOON.replace(tzinfo=None)) == datetime(2024, 1, 6, tzinfo=UTC)
    assert lookup_time(new_york) == datetime(2024, 1, 5, tzinfo=UTC)


def _zone(hours: int) -> Any:
    from datetime import timezone

    return timezone(timedelta(hours=hours))
