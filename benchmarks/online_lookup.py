"""Looking up one customer and 100 items against Feast's client: `python benchmarks/online_lookup.py [--quick]`.

Uses retail's online store; it is built first when there is none. Values must be equal.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from _bench import finish, quantiles_ms

from serinus.features.batch import Column, Ragged
from serinus.features.feast_store import FeastProject, FeastStore
from serinus.features.online import OnlineReader, SqliteStore
from serinus.features.service import ServiceInfo
from serinus.wiring.project import load_module, open_project

ITEMS = 100
CALLS, QUICK_CALLS = 200, 20


def main(arguments: list[str]) -> None:
    """Builds the store in a folder of its own, checks the values and measures."""
    warnings.simplefilter("ignore")
    calls = QUICK_CALLS if "--quick" in arguments else CALLS
    project = open_project({}, start=Path(__file__).parent)
    problem = project.problem("retail")
    as_of = problem.card.data.snapshot_time
    with tempfile.TemporaryDirectory() as home:
        store, items = build(project, problem, Path(home), as_of)
        service = store.service_description(problem.card.data.feature_service)
        reader = OnlineReader(SqliteStore(store.online_path, "retail"), service)
        rows = []
        for entity, ids, case in (("item", items, f"{ITEMS} items"), ("customer", ["12347"], "1 customer")):
            refs = [f"{view.name}:{one.name}" for view in service.of_entity(entity) for one in view.features]
            keys = [{entity: int(one) if entity == "customer" else one} for one in ids]
            ours, theirs = partial(reader.read, entity, ids, as_of), partial(client, store, refs, keys)
            check_equal(ours().side.columns, theirs(), service, entity)
            mine, peer = quantiles_ms(ours, calls), quantiles_ms(theirs, calls)
            case = f"{case} x {len(refs)} features"
            rows += [(case, key, mine[key], peer[key]) for key in mine]
    finish("online_lookup", rows, {"values": "equal to get_online_features().to_dict()", "store": "sqlite"})


def client(store: FeastStore, refs: list[str], keys: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Feast's own way."""
    found: dict[str, list[Any]] = store._feast.get_online_features(refs, keys, full_feature_names=True).to_dict()
    return found


def build(project: Any, problem: Any, home: Path, as_of: datetime) -> tuple[FeastStore, list[str]]:
    """Retail's sources, registry and online store as of the snapshot; the items most sold last."""
    views = problem.code.views(problem.code.clean(pq.ParquetFile(problem.source).read().to_pandas()).tables)
    repo = project.feature_repo
    store = FeastStore(FeastProject("retail", repo / "feature_store.yaml", load_module(repo / "retail.py"), home))
    for name, rows in views.items():
        store.write_source(name, rows)
    store.apply()
    store.materialize(as_of)
    newest = views["item_daily"][views["item_daily"]["event_timestamp"] == pd.Timestamp(as_of)]
    return store, newest.nlargest(ITEMS, "lines_30")["item"].tolist()


def check_equal(ours: Any, theirs: dict[str, list[Any]], service: ServiceInfo, entity: str) -> None:
    """Value by value; raises AssertionError otherwise."""
    for view in service.of_entity(entity):
        for feature in view.features:
            column, expected = ours[f"{view.name}:{feature.name}"], theirs[f"{view.name}__{feature.name}"]
            for position, value in enumerate(expected):
                assert same(column, position, value), (view.name, feature.name, position)


def same(column: Column, position: int, value: Any) -> bool:
    """One of our values against one of Feast's."""
    if isinstance(column, Ragged):
        got = column.values[column.offsets[position] : column.offsets[position + 1]].tolist()
        return len(got) == len(value or []) and all(a == b for a, b in zip(got, value or [], strict=True))
    got = column[position]
    if value is None:
        return got is None or bool(np.isnan(got))
    return bool(got == (value.timestamp() if isinstance(value, datetime) else value))


if __name__ == "__main__":
    main(sys.argv[1:])
