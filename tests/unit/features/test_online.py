"""The online store as the reader sees it: equal to offline and to Feast's client, with expiry and unknown entities."""

from __future__ import annotations

import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast_repo import TYPES, make_store, row

from serinus.core.card import Problem
from serinus.core.errors import NotFound, Unavailable, UsageError
from serinus.features.batch import Column, Ragged, Side
from serinus.features.feast_store import FeastProject, FeastStore
from serinus.features.historical import HistoricalFeatures
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.sides import lookup_time
from serinus.features.value_proto import decode

NOON = datetime(2024, 1, 6, 12, tzinfo=UTC)  # day 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeastStore:
    """Users 1 to 3 and things a, b, c with a history, nulls, and a row from the future."""
    made = make_store(tmp_path_factory.mktemp("feast"))
    nulls = dict.fromkeys(TYPES)
    users = [row("user", 1, 0, 1), row("user", 1, 4, 2), row("user", 2, 5, 3), row("user", 2, 6, 4)]
    users.append(row("user", 3, 1, 5, **nulls))
    things = [row("thing", "a", 5, 6), row("thing", "b", 2, 7), row("thing", "c", 1, 8), row("thing", "ü", 5, 9)]
    made.write_source("users", pd.DataFrame(users))
    made.write_source("things", pd.DataFrame(things))
    made.apply()
    made.materialize(NOON)
    return made


def _reader(store: FeastStore) -> OnlineReader:
    return OnlineReader(SqliteStore(store.online_path, "toy"), store.service_description("toy_service"))


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
    ("entity", "ids"), [("user", [1, 2, 3, 99]), ("thing", ["a", "b", "c", "ü", "unknown"])], ids=["users", "things"]
)
def test_online_equals_offline_for_every_feature(store: FeastStore, entity: str, ids: list[object]) -> None:
    online = _reader(store).read(entity, [str(one) for one in ids], NOON).side
    offline = _offline(store, entity, ids)
    assert set(online.columns) == set(offline.columns)
    assert len(online.columns) == len(TYPES)
    for name in online.columns:
        assert _same(online.columns[name], offline.columns[name]), name


def test_status_and_times_of_each_row(store: FeastStore) -> None:
    found = _reader(store).read("thing", ["a", "b", "c", "unknown"], NOON)
    assert found.status["things"] == ("found", "found", "expired", "missing")  # 0, 3 and 4 days old, ttl 3 days
    days = [(time - datetime(2024, 1, 1, tzinfo=UTC).timestamp()) / 86_400 for time in found.event_times["things"][:3]]
    assert days == [5, 2, 1]
    assert np.isnan(found.event_times["things"][3])


def test_a_key_of_the_wrong_type_is_unknown(store: FeastStore) -> None:
    assert _reader(store).read("user", ["1", "not-a-number", str(2**70)], NOON).status["users"] == (
        "found", "missing", "missing",
    )  # fmt: skip


def test_values_equal_those_of_feasts_client(store: FeastStore) -> None:
    refs = [f"users:{name}" for name in TYPES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = store._feast.get_online_features(refs, [{"user": 1}, {"user": 2}, {"user": 3}]).to_dict()
    ours = _reader(store).read("user", ["1", "2", "3"], NOON).side.columns
    for name in TYPES:
        column = ours[f"users:{name}"]
        for position, expected in enumerate(theirs[name]):
            if isinstance(column, Ragged):
                got = column.values[column.offsets[position] : column.offsets[position + 1]].tolist()
                assert got == [pytest.approx(one) if not isinstance(one, str) else one for one in expected or []], name
            elif expected is None:
                assert column[position] is None or np.isnan(column[position]), name
            elif isinstance(expected, datetime):
                assert column[position] == expected.timestamp(), name
            else:
                assert column[position] == expected, name


def test_an_older_time_after_a_newer_one_serves_the_older_rows(store: FeastStore, tmp_path: Path) -> None:
    """Trap: SQLite takes late rows over newer ones; a reused store would serve the future."""
    made = make_store(tmp_path)
    made.write_source("users", pd.DataFrame([row("user", 1, 1, 1), row("user", 1, 5, 2), row("user", 2, 5, 3)]))
    made.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    made.apply()
    assert made.materialize(NOON) == {"things": 1, "users": 2}
    early = datetime(2024, 1, 3, tzinfo=UTC)
    assert made.materialize(early) == {"things": 1, "users": 1}
    found = _reader(made).read("user", ["1", "2"], early)
    assert found.status["users"] == ("found", "missing")
    assert found.side.columns["users:i32"][0] == 1.0


def test_a_reader_never_sees_half_a_store(store: FeastStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A materialization that dies leaves the old store in place."""
    before = store.online_path.read_bytes()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serinus.features.feast_store._count", die)
    with pytest.raises(KeyboardInterrupt):
        store.materialize(datetime(2024, 1, 9, tzinfo=UTC))
    assert store.online_path.read_bytes() == before


def test_applying_twice_changes_nothing_and_a_removed_view_goes(tmp_path: Path) -> None:
    made = make_store(tmp_path)
    for view in ("users", "things"):
        made.write_source(view, pd.DataFrame([row("user" if view == "users" else "thing", 1, 1, 1)]))
    made.apply()
    first = made.service_description("toy_service").hash
    made.apply()
    assert made.service_description("toy_service").hash == first
    held = {view.name for view in made._feast.list_feature_views()}
    assert held == {"users", "things"}


def test_the_hash_follows_the_definitions(tmp_path: Path) -> None:
    hashes = []
    for number, ttl in enumerate((3, 3, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = make_store(folder, timedelta(days=ttl))
        for view, key in (("users", "user"), ("things", "thing")):
            made.write_source(view, pd.DataFrame([row(key, 1 if key == "user" else "a", 1, 1)]))
        made.apply()
        hashes.append(made.service_description("toy_service").hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_faults_are_told(store: FeastStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="feature service other is not in the registry"):
        store.service_description("other")
    with pytest.raises(NotFound, match="view other is not declared"):
        store.write_source("other", pd.DataFrame())
    with pytest.raises(Unavailable, match="no online store of toy yet"):
        OnlineReader(SqliteStore(tmp_path / "none.db", "toy"), store.service_description("toy_service")).read(
            "user", ["1"], NOON
        )


def test_an_unset_variable_is_a_fault_and_not_a_folder(tmp_path: Path) -> None:
    """Trap: Feast makes a directory named ${REG_PATH} and lists nothing."""
    made = make_store(tmp_path)
    config = tmp_path / "feature_store.yaml"
    config.write_text(config.read_text() + "flags: ${NOT_SET}\n")
    with pytest.raises(UsageError, match="cannot be read"):
        FeastStore(FeastProject("toy", config, made._project.definitions, tmp_path))


def test_the_reader_needs_neither_feast_nor_pandas() -> None:
    import subprocess

    code = "import sys, serinus.features.online; print([m for m in ('feast', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_type_is_decoded_as_feast_encodes_it() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert decode(Value(int64_val=-5).SerializeToString()) == -5
    assert decode(Value(bool_val=False).SerializeToString()) is False
    assert decode(Value(bytes_val=b"\x00").SerializeToString()) == b"\x00"
    assert decode(Value(unix_timestamp_val=7).SerializeToString()) == 7
    assert decode(Value().SerializeToString()) is None
    assert decode(None) is None
    for kind in ("string", "int32", "int64", "double", "float", "bool", "unix_timestamp", "bytes"):
        value = Value()
        sample = {"string": ["a", ""], "bool": [True, False], "bytes": [b"x"]}.get(kind, [1, 0, 2])
        getattr(value, f"{kind}_list_val").val.extend(sample)
        assert decode(value.SerializeToString()) == sample, kind


def test_the_card_of_retail_names_a_service_that_is_declared(retail_card: Problem) -> None:
    text = (Path(__file__).parents[3] / "feature_repo/retail.py").read_text()
    assert f'name="{retail_card.data.feature_service}"' in text
