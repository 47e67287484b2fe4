"""The point-in-time join against Feast's own offline stores: `python benchmarks/pit_join.py [--quick]`.

Cases: 100k entity rows against 1M rows in each of three views, and retail's own item side. Values must equal those of
Feast's duckdb store; rows that the default store (dask) loses or answers otherwise are counted. Best of three runs, one
of dask.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from _bench import finish, timed

VIEWS, FEATURES = 3, 5
ENTITIES, ROWS, KEYS = 100_000, 1_000_000, 10_000
QUICK = 20
RUNS = {"ours": 3, "duckdb": 3, "dask": 1}
OURS = "serinus.features.offline_store.DuckDBOfflineStore"


def main(arguments: list[str]) -> None:
    """Runs both cases and writes the results."""
    scale = QUICK if "--quick" in arguments else 1
    rows, notes = [], {}
    with tempfile.TemporaryDirectory() as home:
        size = f"{ENTITIES // scale // 1000}k x {ROWS // scale // 1000}k, {VIEWS} views"
        for case, build in ((size, synthetic), ("retail items", retail)):
            folder = Path(home) / build.__name__
            folder.mkdir()
            frame, stores, refs = build(folder, scale)
            found, took = {}, {}
            for name, store in stores.items():
                found[name], took[name] = best(partial(retrieve, store, frame, refs), RUNS[name])
            assert len(found["ours"]) == len(frame)
            check_equal(found["ours"], found["duckdb"])
            notes[f"{case}, values"] = "equal to feast duckdb"
            for peer in [name for name in stores if name != "ours"]:
                rows.append((case, f"seconds, against feast {peer}", took["ours"], took[peer]))
                notes[f"{case}, rows out of feast {peer}"] = f"{len(found[peer]):,} of {len(frame):,}"
            if "dask" in found:
                notes[f"{case}, rows of feast dask that differ"] = f"{differing(found['ours'], found['dask']):,}"
    finish("pit_join", rows, notes)


def retrieve(store: Any, frame: pd.DataFrame, refs: list[str]) -> pd.DataFrame:
    """One point-in-time retrieval through Feast, whose dependencies warn of each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return store.get_historical_features(frame, refs, full_feature_names=True).to_df()


def best(run: Callable[[], pd.DataFrame], runs: int) -> tuple[pd.DataFrame, float]:
    """The result, and the shortest of its times."""
    results = [timed(run) for _ in range(runs)]
    return results[0][0], min(took for _, took in results)


def differing(ours: pd.DataFrame, theirs: pd.DataFrame) -> int:
    """Rows that came back from a store with another value of any feature."""
    both = ours.merge(theirs, on="n", suffixes=("", "_theirs"))
    features = [name for name in ours.columns if f"{name}_theirs" in both and "__" in name]
    a, b = (both[[name + end for name in features]].to_numpy(dtype=float) for end in ("", "_theirs"))
    return int((~((a == b) | (np.isnan(a) & np.isnan(b)))).any(axis=1).sum())


def check_equal(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Same values row by row; raises AssertionError otherwise."""
    left, right = (frame.sort_values("n", ignore_index=True) for frame in (ours, theirs))
    columns = sorted(set(left.columns) - {"n"})
    for column in columns:
        a, b = left[column], right[column]
        if a.dtype.kind == "f" or b.dtype.kind == "f":
            np.testing.assert_array_equal(a.astype(float), b.astype(float), err_msg=column)
        elif a.dtype.kind == "M":
            np.testing.assert_array_equal(_micros(a), _micros(b), err_msg=column)
        else:
            assert a.astype(str).tolist() == b.astype(str).tolist(), column


def _micros(times: pd.Series) -> np.ndarray:
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[us]")


def synthetic(folder: Path, scale: int) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """Random histories over 90 days, ttl 30 days."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32

    rng = np.random.default_rng(1)
    entity = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    start, views = np.datetime64("2024-01-01", "us"), []
    for view in range(VIEWS):
        count = ROWS // scale
        table = pd.DataFrame({f"f{i}": rng.random(count, dtype=np.float32) for i in range(FEATURES)})
        table["user"] = rng.integers(0, KEYS // scale, count)
        # Distinct times: which of two equal ones wins is not defined by Feast.
        table["event_timestamp"] = start + rng.permutation(count).astype("timedelta64[us]") * (
            90 * 86_400_000_000 // count
        )
        path = folder / f"v{view}.parquet"
        table.to_parquet(path, index=False, coerce_timestamps="us")
        schema = [Field(name=f"f{i}", dtype=Float32) for i in range(FEATURES)]
        source = FileSource(name=f"s{view}", path=str(path), timestamp_field="event_timestamp")
        views.append(
            FeatureView(name=f"v{view}", entities=[entity], ttl=timedelta(days=30), schema=schema, source=source)
        )
    asked = ENTITIES // scale
    times = start + rng.integers(0, 90 * 86_400_000_000, asked).astype("timedelta64[us]")
    frame = pd.DataFrame({"n": np.arange(asked), "user": rng.integers(0, KEYS // scale, asked)})
    frame["event_timestamp"] = pd.DatetimeIndex(times).tz_localize("UTC")
    refs = [f"v{view}:f{i}" for view in range(VIEWS) for i in range(FEATURES)]
    return frame, stores(folder, [entity, *views], ("duckdb", "dask")), refs


def retail(folder: Path, scale: int) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """Every eligible item of every trading day against retail's own item views, lists left out."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float32, Int64

    from serinus.wiring.project import open_project

    problem = open_project({}, start=Path(__file__).parent).problem("retail")
    tables = problem.code.clean(pq.ParquetFile(problem.source).read().to_pandas()).tables
    views = problem.code.views(tables)
    item = Entity(name="item", join_keys=["item"], value_type=ValueType.STRING)
    kept = {"item_daily": (["lines_7", "revenue_30", "buyers_30", "price", "return_rate"], Float32, timedelta(days=7)),
            "item_text": (["category"], Int64, timedelta(0))}  # fmt: skip
    declared = []
    for name, (columns, dtype, ttl) in kept.items():
        path = folder / f"{name}.parquet"
        views[name][["item", "event_timestamp", *columns]].to_parquet(path, index=False, coerce_timestamps="us")
        declared.append(
            FeatureView(
                name=name,
                entities=[item],
                ttl=ttl,
                schema=[Field(name=column, dtype=dtype) for column in columns],
                source=FileSource(name=f"{name}_source", path=str(path), timestamp_field="event_timestamp"),
            )
        )
    pairs = views["item_daily"][["item", "event_timestamp"]].iloc[:: 2 * scale].reset_index(drop=True)
    frame = pairs.assign(n=np.arange(len(pairs)))
    frame["event_timestamp"] = pd.DatetimeIndex(frame["event_timestamp"]).as_unit("us").tz_localize("UTC")
    refs = [f"{name}:{column}" for name, (columns, _, _) in kept.items() for column in columns]
    return frame, stores(folder, [item, *declared], ("duckdb",)), refs


def stores(folder: Path, objects: list[Any], peers: tuple[str, ...]) -> dict[str, Any]:
    """The same definitions applied to each offline store."""
    from feast import FeatureStore, RepoConfig

    opened = {}
    for name in ("ours", *peers):
        offline = {"type": OURS, "root": "/"} if name == "ours" else {"type": name}
        config = RepoConfig(
            project=name, provider="local", registry=str(folder / f"{name}.db"), offline_store=offline,
            online_store={"type": "sqlite", "path": str(folder / f"{name}_online.db")},
            entity_key_serialization_version=3,
        )  # fmt: skip
        opened[name] = FeatureStore(config=config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened[name].apply(objects)
    return opened


if __name__ == "__main__":
    main(sys.argv[1:])
