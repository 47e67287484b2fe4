"""Feast definitions of problem "retail": declarations only; the rows come from problems/retail/features.py.

`event_timestamp` of every source row is the midnight from which the row may be used. Item rows expire after a week: an
item that has left the shelves must not be ranked by its last good day.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64, String, UnixTimestamp

customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["item"], value_type=ValueType.STRING)


def _source(view: str) -> FileSource:
    return FileSource(name=f"{view}_source", path=f"retail/{view}.parquet", timestamp_field="event_timestamp")


def _floats(*names: str) -> list[Field]:
    return [Field(name=name, dtype=Float32) for name in names]


def _windows(names: tuple[str, ...], days: tuple[int, ...]) -> list[Field]:
    return _floats(*(f"{name}_{window}" for name in names for window in days))


customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    ttl=timedelta(0),
    source=_source("customer_profile"),
    schema=[
        Field(name="country", dtype=String),
        Field(name="first_visit", dtype=UnixTimestamp),
        Field(name="last_visit", dtype=UnixTimestamp),
        *_floats("known", "visits", "items", "basket_items", "basket_value", "line_price"),
        *_windows(("visits", "lines", "revenue"), (7, 30, 90)),
    ],
)

customer_history = FeatureView(
    name="customer_history",
    entities=[customer],
    ttl=timedelta(0),
    source=_source("customer_history"),
    schema=[
        Field(name="items", dtype=Array(String)),
        Field(name="counts", dtype=Array(Int64)),
        Field(name="times", dtype=Array(Int64)),
        Field(name="categories", dtype=Array(Int64)),
        Field(name="taste", dtype=Array(Float32)),
    ],
)

item_daily = FeatureView(
    name="item_daily",
    entities=[item],
    ttl=timedelta(days=7),
    source=_source("item_daily"),
    schema=[
        *_windows(("lines", "revenue", "buyers"), (1, 7, 30)),
        *_floats("price", "return_rate"),
        Field(name="last_sale", dtype=UnixTimestamp),
    ],
)

item_text = FeatureView(
    name="item_text",
    entities=[item],
    ttl=timedelta(0),
    source=_source("item_text"),
    schema=[
        Field(name="first_sale", dtype=UnixTimestamp),
        Field(name="category", dtype=Int64),
        Field(name="vector", dtype=Array(Float32)),
    ],
)

retail_ranking = FeatureService(
    name="retail_ranking", features=[customer_profile, customer_history, item_daily, item_text]
)
