"""A problem's Feast project: declarations to registry, sources, and materialization that a reader can trust."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bytes, Int64
from feast_repo import TYPES, make_store, row
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.core.card import Problem
from serinus.core.errors import DataError, NotFound, SerinusError, Unavailable, UsageError
from serinus.features.clock import lookup_time
from serinus.features.feast_store import FeastProject, FeastStore
from serinus.features.historical import HistoricalFeatures
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.snapshots import Earlier

NOON = datetime(2024, 1, 6, 12, tzinfo=UTC)  # day 5
START = pd.Timestamp("2024-01-01")


@pytest.fixture
def store(tmp_path: Path) -> FeastStore:
    """Two users with a history, one thing, applied and not materialized."""
    made = make_store(tmp_path)
    made.write_source("users", pd.DataFrame([row("user", 1, 1, 1), row("user", 1, 5, 2), row("user", 2, 5, 3)]))
    made.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    made.apply()
    return made


def _read(store: FeastStore, entity: str, ids: list[str], as_of: datetime) -> Any:
    service = store.service_description("toy_service")
    return OnlineReader(SqliteStore(store.online_path, "toy"), service).read(entity, ids, as_of)


def _offline(store: FeastStore, ids: list[object], day: str) -> Any:
    source = HistoricalFeatures(store._retrieve, store.service_description("toy_service"), "user", "thing")
    return source.entity_side(np.array(ids, dtype=object), np.full(len(ids), np.datetime64(day)))


def test_an_older_time_after_a_newer_one_serves_the_older_rows(store: FeastStore) -> None:
    """Trap: SQLite takes late rows over newer ones; a reused store would serve the future."""
    assert store.materialize(NOON) == {"things": 1, "users": 2}
    early = datetime(2024, 1, 3, tzinfo=UTC)
    assert store.materialize(early) == {"things": 1, "users": 1}
    found = _read(store, "user", ["1", "2"], early)
    assert found.status["users"] == ("found", "missing")
    assert found.side.columns["users:i32"][0] == 1.0


def test_a_problem_with_a_hyphen_is_stored_and_read_under_the_name_that_feast_takes(tmp_path: Path) -> None:
    """Feast takes word characters only, and a problem has none but letters, digits and hyphens."""
    store = make_store(tmp_path, problem="card-fraud")
    store.write_source("users", pd.DataFrame([row("user", 1, 1, 1)]))
    store.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    store.apply()
    assert store.materialize(NOON) == {"things": 1, "users": 1}
    service = store.service_description("toy_service")
    assert service.project == "card_fraud"
    found = OnlineReader(SqliteStore(store.online_path, "card_fraud"), service).read("user", ["1"], NOON)
    assert found.status["users"] == ("found",)


def test_a_late_row_does_not_replace_a_newer_one(store: FeastStore) -> None:
    store.materialize(NOON)
    late = pd.DataFrame([row("user", 1, 5, 2), row("user", 1, 3, 9)])
    store.write_source("users", late)
    store.materialize(NOON)
    assert _read(store, "user", ["1"], NOON).side.columns["users:i32"].tolist() == [2.0]


EVENTS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(0, 99)), min_size=1, max_size=15)


@settings(max_examples=15)
@given(EVENTS, st.integers(0, 7))
def test_materialized_equals_retrieved_whatever_the_history(ties: FeastStore, events: Any, day: int) -> None:
    """Ties, late rows and rows of the future: both sides choose the same row."""
    ties.write_source("users", pd.DataFrame([row("user", user, at, number) for user, at, number in events]))
    as_of = datetime(2024, 1, 1, 15, tzinfo=UTC) + timedelta(days=day)
    ties.materialize(as_of)
    online = _read(ties, "user", ["1", "2", "3", "4"], as_of).side.columns["users:i32"]
    offline = _offline(ties, [1, 2, 3, 4], as_of.strftime("%Y-%m-%d")).columns["users:i32"]
    assert np.array_equal(online, offline, equal_nan=True)


@settings(max_examples=15)
@given(EVENTS, st.lists(st.integers(0, 7), min_size=2, max_size=3, unique=True).map(sorted), st.booleans())
def test_a_day_on_top_of_an_earlier_one_is_byte_for_byte_the_day_at_once(
    ties: FeastStore, events: Any, days: list[int], with_nulls: bool
) -> None:
    """Ties, late rows, rows of the first day's very midnight, values that become null: every column of every table."""
    nulls = dict.fromkeys(TYPES) if with_nulls else {}
    rows = [row("user", user, at, number, **(nulls if number % 2 else {})) for user, at, number in events]
    ties.write_source("users", pd.DataFrame(rows))
    with tempfile.TemporaryDirectory() as folder:
        earlier: Earlier | None = None
        for day in days:
            as_of = datetime(2024, 1, 1, 15, tzinfo=UTC) + timedelta(days=day)
            grown, whole = Path(folder) / f"{day}-grown.db", Path(folder) / f"{day}.db"
            ties.write_snapshot(as_of, grown, earlier)
            ties.write_snapshot(as_of, whole)
            assert _dump(grown) == _dump(whole)
            earlier = Earlier(lookup_time(as_of), grown)


def _dump(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {one: db.execute(f'SELECT * FROM "{one}" ORDER BY 1, 2').fetchall() for one in sorted(tables)}


@pytest.fixture(scope="module")
def ties(tmp_path_factory: pytest.TempPathFactory) -> FeastStore:
    """A store whose users are written anew for each example."""
    made = make_store(tmp_path_factory.mktemp("ties"))
    made.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    made.apply()
    return made


def test_a_materialization_that_dies_leaves_the_old_store_and_nothing_else(
    store: FeastStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.materialize(NOON)
    before, files = store.online_path.read_bytes(), sorted(store.online_path.parent.iterdir())

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("serinus.features.feast_store.counts", die)
        with pytest.raises(KeyboardInterrupt):
            store.materialize(datetime(2024, 1, 9, tzinfo=UTC))
    assert store.online_path.read_bytes() == before
    assert sorted(store.online_path.parent.iterdir()) == files


def test_only_materialization_writes_the_online_store(store: FeastStore) -> None:
    with pytest.raises(Unavailable, match="no online store of toy yet"):
        _read(store, "user", ["1"], NOON)
    store.materialize(NOON)
    before = store.online_path.read_bytes()
    store.apply()
    assert store.online_path.read_bytes() == before


@pytest.fixture
def in_new_york() -> Iterator[None]:
    """The machine's time zone, put back afterwards."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
def test_stored_times_do_not_depend_on_the_machines_zone(store: FeastStore) -> None:
    """Trap: Feast writes event times as if they were local; a ttl would end five hours early or late."""
    store.materialize(NOON)
    times = _read(store, "user", ["1"], NOON).event_times["users"]
    assert times == (datetime(2024, 1, 6, tzinfo=UTC).timestamp(),)
    theirs = store._feast.get_online_features(["users:i32"], [{"user": 1}]).to_dict(include_event_timestamps=True)
    assert theirs["i32__ts"] == [times[0]]


def test_applying_twice_changes_nothing(store: FeastStore) -> None:
    first = store.service_description("toy_service").hash
    store.apply()
    assert store.service_description("toy_service").hash == first


def test_what_is_no_longer_declared_goes(store: FeastStore) -> None:
    declared = store._project.definitions.__dict__
    declared["service"] = FeatureService(name="toy_service", features=[declared["users"]])
    del declared["things"], declared["thing"]
    store.apply()
    held = store._feast
    assert [view.name for view in held.list_feature_views()] == ["users"]
    assert [entity.name for entity in held.list_entities()] == ["user"]
    assert [source.name for source in held.list_data_sources()] == ["users_source"]
    assert store.materialize(NOON) == {"users": 2}
    assert [view.name for view in store.service_description("toy_service").views] == ["users"]


def test_the_hash_follows_the_definitions(tmp_path: Path) -> None:
    hashes = []
    for number, ttl in enumerate((3, 3, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = make_store(folder, timedelta(days=ttl))
        made.apply()
        hashes.append(made.service_description("toy_service").hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_description_is_plain_data(store: FeastStore) -> None:
    service = store.service_description("toy_service")
    assert type(service).model_validate_json(service.model_dump_json()) == service


def _declare(store: FeastStore, view: FeatureView, *entities: Entity) -> None:
    declared = store._project.definitions.__dict__
    declared |= {"extra": view, "service": FeatureService(name="toy_service", features=[view])}
    declared |= {entity.name: entity for entity in entities}
    store.apply()


def _view(entities: list[Entity], **changes: Any) -> FeatureView:
    source = FileSource(name="extra_source", path="toy/users.parquet", timestamp_field="event_timestamp")
    settled: dict[str, Any] = {"schema": [Field(name="i32", dtype=Int64)], "source": source, "entities": entities}
    return FeatureView(name="extra", **settled | changes)


@pytest.mark.parametrize("case", ["type", "composite", "key", "none"])
def test_a_view_that_cannot_be_looked_up_online_is_told(store: FeastStore, case: str) -> None:
    user = store._project.definitions.user
    other = Entity(name="other", join_keys=["f64"], value_type=ValueType.DOUBLE)
    view, message = {
        "type": (_view([user], schema=[Field(name="i32", dtype=Bytes)]), "feature i32 is of type Bytes"),
        "composite": (_view([user, other]), "it does not have exactly one entity"),
        "key": (_view([other]), "its key is of type DOUBLE"),
        "none": (_view([]), "it does not have exactly one entity|its key is of type"),
    }[case]
    _declare(store, view, other)
    with pytest.raises(UsageError, match="feature view extra cannot be looked up online") as told:
        store.service_description("toy_service")
    assert any(part in told.value.cause for part in message.split("|"))


def _ids(store: FeastStore) -> None:
    _offline(store, ["not a number"], "2024-01-06")


def _damage(store: FeastStore) -> None:
    (store._project.home / "features/toy/users.parquet").write_bytes(b"PAR1")


def _damaged_retrieval(store: FeastStore) -> None:
    _damage(store)
    _offline(store, [1], "2024-01-06")


def _damaged_materialization(store: FeastStore) -> None:
    _damage(store)
    store.materialize(NOON)


def _no_rows_yet(store: FeastStore) -> None:
    (store._project.home / "features/toy/users.parquet").unlink()
    store.materialize(NOON)


def _nothing_declared(store: FeastStore) -> None:
    store._project.definitions.__dict__.clear()
    store.apply()


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (lambda store: store.service_description("other"), NotFound, "feature service other is not in the registry"),
        (lambda store: store.write_source("other", pd.DataFrame()), NotFound, "view other is not declared"),
        (
            lambda store: store.write_source("users", pd.DataFrame([row("user", 1, 0, 1)]).drop(columns=["f32", "at"])),
            DataError,
            "the rows of feature view users lack the columns at, f32",
        ),
        (_ids, DataError, "ids of user must be whole numbers"),
        (_damaged_retrieval, DataError, "feature rows .*users.parquet cannot be read"),
        (_damaged_materialization, DataError, "feature rows .*users.parquet cannot be read"),
        (_no_rows_yet, DataError, "feature source users_source has no rows yet"),
        (_nothing_declared, UsageError, "the definitions of toy declare no feature view"),
    ],
)
def test_faults_are_told(store: FeastStore, fault: Any, kind: type[SerinusError], message: str) -> None:
    with pytest.raises(kind, match=message):
        fault(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": "${NOT_SET}"}, "cannot be read"),  # Feast would make a directory named ${NOT_SET} and list nothing
        ({"registry": None}, "cannot be read"),
        ({"provider": 7}, "cannot be read"),
        ({"entity_key_serialization_version": 2}, "cannot be read"),
        ({"online_store": {"type": "redis"}}, "asks for an online store that cannot be read"),
        (
            {"registry": {"path": "r.db", "enable_online_feature_view_versioning": True}},
            "asks for an online store that cannot be read",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_would_go_wrong_is_refused(store: FeastStore, change: Any, message: str) -> None:
    config = store._project.config
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | change))
    with pytest.raises(UsageError, match=message):
        FeastStore(FeastProject("toy", config, store._project.definitions, config.parent))


def test_a_home_may_hold_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "my home: #1 'x'"
    folder.mkdir()
    made = make_store(folder)
    made.write_source("users", pd.DataFrame([row("user", 1, 1, 1)]))
    made.write_source("things", pd.DataFrame([row("thing", "a", 1, 1)]))
    made.apply()
    made.materialize(NOON)
    assert _read(made, "user", ["1"], NOON).status["users"] == ("found",)
    assert {path.name for path in folder.iterdir()} == {"feature_store.yaml", "feast", "features"}


def test_nothing_is_printed(store: FeastStore, capfd: pytest.CaptureFixture[str]) -> None:
    store.apply()
    store.materialize(NOON)
    _offline(store, [1], "2024-01-06")
    assert capfd.readouterr() == ("", "")


def test_the_layout_is_feasts(store: FeastStore) -> None:
    """One row a feature: what a client of Feast, ours or theirs, may rely on."""
    store.materialize(NOON)
    db = sqlite3.connect(store.online_path)
    rows = db.execute("SELECT count(*), count(DISTINCT entity_key), count(DISTINCT feature_name) FROM toy_users")
    assert rows.fetchone() == (2 * 14, 2, 14)
    db.close()


def test_feast_is_loaded_without_typeguard_which_is_then_put_back() -> None:
    code = """
import typeguard
real = typeguard.typechecked
import serinus.features.feast_store
from feast import Entity
print(typeguard.typechecked is real, "TypeCheckMemo" in Entity.__init__.__code__.co_names)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_the_card_of_retail_names_a_service_that_is_declared(retail_card: Problem) -> None:
    text = (Path(__file__).parents[3] / "feature_repo/retail.py").read_text()
    assert f'name="{retail_card.data.feature_service}"' in text
