"""Feast definitions of problem "renewal": declarations only; the rows come from problems/renewal/features.py."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, String, UnixTimestamp

account = Entity(name="account", join_keys=["account"], value_type=ValueType.STRING)

account_monthly = FeatureView(
    name="account_monthly",
    entities=[account],
    ttl=timedelta(days=62),
    source=FileSource(
        name="account_monthly_source",
        path="renewal/account_monthly.parquet",
        timestamp_field="event_timestamp",
    ),
    schema=[
        Field(name="plan", dtype=String),
        Field(name="first_month", dtype=UnixTimestamp),
        *(Field(name=name, dtype=Float32) for name in ("sessions", "sessions_3", "tickets", "fee")),
    ],
)

service = FeatureService(name="renewal_scoring", features=[account_monthly])
