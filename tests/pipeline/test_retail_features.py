"""Retail's feature store for real: built from the log by the command, and online equal to offline for every feature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from serinus.core.events import BucketCheck
from serinus.features.assemble import assemble
from serinus.features.batch import Column, Ragged
from serinus.features.dataset import Requests
from serinus.features.feast_store import FeastStore
from serinus.features.inputs import columns_of
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.stores import store_of
from serinus.features.transforms import Matrix, matrix
from serinus.serving.stages import Admitted, FeatureLookup
from serinus.wiring.adapters import feature_clock, feature_store
from serinus.wiring.project import Project, open_project
from tests.servers import PATIENT_SECONDS, redis_server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
AS_OF = datetime(2011, 10, 3, 15, 30)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with retail's features, and an online store as of a day in the middle of the log."""
    folder = tmp_path_factory.mktemp("retail")
    for command in (("build", "retail"), ("materialize", "retail", "--as-of", AS_OF.isoformat())):
        _serinus(folder, "features", *command)
    return folder


def _serinus(home: Path, *arguments: str) -> str:
    environment = os.environ | {"SERINUS_HOME": str(home), "SERINUS_PROJECT": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "serinus", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(home: Path) -> Project:
    return open_project({"SERINUS_HOME": str(home)}, start=ROOT)


@pytest.fixture(scope="module")
def store(project: Project) -> FeastStore:
    return feature_store(project, "retail")


def _same(left: Column, right: Column) -> bool:
    if isinstance(left, Ragged) and isinstance(right, Ragged):
        return np.array_equal(left.offsets, right.offsets) and np.array_equal(left.values, right.values)
    if isinstance(left, Ragged) or isinstance(right, Ragged):
        return False
    return left.tolist() == right.tolist() if left.dtype == object else np.array_equal(left, right, equal_nan=True)


@pytest.mark.parametrize("entity", ["customer", "item"])
def test_online_equals_offline_for_every_feature(project: Project, store: FeastStore, entity: str) -> None:
    """All customers and all items that the log ever names, known by that day or not."""
    card = project.problem("retail").card
    service = store.service_description(card.data.feature_service)
    key = "customer_profile" if entity == "customer" else "item_text"
    ids = sorted(pq.ParquetFile(project.home / f"features/retail/{key}.parquet").read().to_pandas()[entity].unique())
    reader = OnlineReader(SqliteStore(store.online_path, "retail"), service)
    online = reader.read(entity, [str(one) for one in ids], AS_OF)
    source = store.historical_source(card)
    days = np.full(len(ids), np.datetime64(AS_OF.date()))
    find = source.entity_side if entity == "customer" else source.item_side
    offline = find(np.array(ids, dtype=object), days)
    statuses = {status for states in online.status.values() for status in states}
    assert statuses == ({"found", "missing"} if entity == "customer" else {"found", "missing", "expired"})
    for name, column in offline.columns.items():
        assert _same(online.side.columns[name], column), name


def test_a_lookup_of_distinct_pairs_gives_each_row_its_own(project: Project, store: FeastStore) -> None:
    """D13: expanding (entity, day) lookups equals looking up every request by itself."""
    loaded = project.problem("retail")
    requests = pd.DataFrame(
        {
            "entity": [12347, 12347, 12748, 99],
            "as_of": pd.to_datetime(["2011-10-03 09:00", "2011-10-03 17:00", "2011-11-01 10:00", "2011-11-01 10:00"]),
        }
    )
    rows = pd.DataFrame({"request": [0, 0, 1, 2, 3], "item": ["85123A", "22423", "85123A", "22423", "nothing"]})
    source = store.historical_source(loaded.card)
    together = matrix(loaded.code.inputs, assemble(requests, rows, source, with_items=True))
    for position in range(len(rows)):
        one = rows.iloc[[position]].assign(request=0).reset_index(drop=True)
        asked = requests.iloc[[rows["request"][position]]].reset_index(drop=True)
        alone = matrix(loaded.code.inputs, assemble(asked, one, source, with_items=True))
        assert np.array_equal(alone[0], together[position])


def test_every_column_that_an_input_reads_is_declared(project: Project, store: FeastStore) -> None:
    loaded = project.problem("retail")
    service = store.service_description(loaded.card.data.feature_service)
    declared = {f"{view.name}:{one.name}" for view in service.views for one in view.features}
    assert set(columns_of(loaded.code.inputs)) <= declared


def test_lookup_prints_values_with_their_times(home: Path) -> None:
    command = ("features", "lookup", "retail", "--customer", "12347", "--items", "85123A,22423,nothing")
    shown = _serinus(home, *command)
    assert "customer 12347" in shown
    assert "item nothing (unknown" in shown
    found = json.loads(_serinus(home, *command, "--as-of", AS_OF.isoformat(), "--json"))
    assert [(one["kind"], one["id"], one["known"]) for one in found] == [
        ("customer", "12347", True), ("item", "85123A", True), ("item", "22423", True), ("item", "nothing", False),
    ]  # fmt: skip
    price = next(value for value in found[1]["values"] if value["feature"] == "price")
    assert price["status"] == "found"
    assert price["time"] == "2011-10-03T00:00:00+00:00"
    assert price["value"] == pytest.approx(2.95, abs=0.5)


WEEK = (datetime(2011, 10, 3), datetime(2011, 10, 10))


@pytest.fixture(scope="module")
def recorded_week(project: Project, store: FeastStore) -> tuple[Requests, Matrix]:
    """Every visit of a week with its candidates, and the offline matrix of their rows."""
    problem = project.problem("retail")
    log = pq.ParquetFile(problem.source).read().to_pandas()
    asked = problem.code.requests(problem.code.clean(log).tables, problem.card)
    inside = asked.requests["as_of"].between(*WEEK, inclusive="left")
    requests = asked.requests[inside].reset_index()
    rows = asked.rows[asked.rows["request"].isin(requests["index"])]
    position = pd.Series(requests.index, index=requests["index"])
    rows = rows.assign(request=position.loc[rows["request"]].to_numpy()).reset_index(drop=True)
    batch = assemble(requests, rows, store.historical_source(problem.card), with_items=True)
    return Requests(requests.drop(columns="index"), rows), matrix(problem.code.inputs, batch)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_every_served_row_of_a_week_is_its_offline_row(
    project: Project, store: FeastStore, recorded_week: tuple[Requests, Matrix], tmp_path: Path, backend: str
) -> None:
    """D12: the clock moves day by day, and a request looks up what a training set would have."""
    card, inputs = project.problem("retail").card, project.problem("retail").code.inputs
    asked, offline = recorded_week
    assert len(asked.requests) > 300
    with redis_server(tmp_path) as server:
        address = server.address if backend == "redis" else str(tmp_path / "online.db")
        clock = feature_clock(project, "retail", address)
        kept = store_of(address, "retail", timeout=PATIENT_SECONDS)
        reader = OnlineReader(kept, store.service_description(card.data.feature_service))
        look_up = FeatureLookup(reader, "customer", "item")
        of_request = asked.rows.groupby("request", sort=True).indices
        for request in asked.requests["as_of"].argsort(kind="stable"):
            mine = of_request[request]
            about = asked.requests.iloc[request]
            as_of = about["as_of"].to_pydatetime().replace(tzinfo=UTC)
            clock.move_to(as_of)
            items = tuple(asked.rows["item"].iloc[mine])
            found = look_up(Admitted("r", str(about["entity"]), "u", items, {}, as_of, "", 0, BucketCheck.OK))
            assert found.reachable
            assert np.array_equal(matrix(inputs, found.batch), offline[mine]), about["request_id"]
