"""A small Feast project for tests: every type, two entities, ttl, made by functions and never on a server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pandas as pd
import yaml
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from serinus.features.feast_store import FeastProject, FeastStore

TYPES = {
    "f32": Float32, "f64": Float64, "i32": Int32, "i64": Int64, "text": String, "flag": Bool, "at": UnixTimestamp,
    "f32s": Array(Float32), "f64s": Array(Float64), "i32s": Array(Int32), "i64s": Array(Int64), "texts": Array(String),
    "flags": Array(Bool), "ats": Array(UnixTimestamp),
}  # fmt: skip


def _time(number: int) -> pd.Timestamp:
    return pd.Timestamp(1_000_000_000 + number, unit="s")


def definitions(ttl: timedelta) -> ModuleType:
    """A module with the declarations, as feature_repo/<problem>.py would be."""
    module = ModuleType("test_definitions")
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    thing = Entity(name="thing", join_keys=["thing"], value_type=ValueType.STRING)
    views = {}
    for name, entity, life in (("users", user, timedelta(0)), ("things", thing, ttl)):
        views[name] = FeatureView(
            name=name, entities=[entity], ttl=life, schema=[Field(name=n, dtype=t) for n, t in TYPES.items()],
            source=FileSource(name=f"{name}_source", path=f"toy/{name}.parquet", timestamp_field="event_timestamp"),
        )  # fmt: skip
    module.__dict__.update(user=user, thing=thing, **views)
    module.__dict__["service"] = FeatureService(name="toy_service", features=list(views.values()))
    return module


def make_store(folder: Path, ttl: timedelta = timedelta(days=3), problem: str = "toy") -> FeastStore:
    """A store whose home is `folder`, with nothing in it yet."""
    config = folder / "feature_store.yaml"
    document = {
        "project": "${SERINUS_PROBLEM}",
        "provider": "local",
        "registry": "${SERINUS_HOME}/feast/registry.db",
        "offline_store": {
            "type": "serinus.features.offline_store.DuckDBOfflineStore",
            "root": "${SERINUS_HOME}/features",
            "threads": 1,
        },
        "online_store": {"type": "sqlite", "path": "${SERINUS_HOME}/feast/online.db"},
        "entity_key_serialization_version": 3,
    }
    config.write_text(yaml.safe_dump(document))
    return FeastStore(FeastProject(problem, config, definitions(ttl), folder))


def row(key: str, value: object, day: int, number: int, **changes: object) -> dict[str, object]:
    """A source row whose values all follow from `number`."""
    values: dict[str, object] = {
        "f32": number / 2, "f64": number / 3, "i32": number, "i64": number * 10**10, "text": f"t{number}",
        "flag": number % 2 == 0, "at": _time(number), "f32s": [number / 4, 0.0], "f64s": [number / 3],
        "i32s": [number], "i64s": [number, -number], "texts": [f"a{number}", ""], "flags": [True, False],
        "ats": [_time(number), _time(0)],
    }  # fmt: skip
    return {key: value, "event_timestamp": pd.Timestamp("2024-01-01") + pd.Timedelta(days=day)} | values | changes
