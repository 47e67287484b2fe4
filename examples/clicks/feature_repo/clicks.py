"""Feast definitions of problem "clicks": declarations only; the rows come from problems/clicks/features.py."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32

shopper = Entity(name="shopper", join_keys=["shopper"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item"], value_type=ValueType.STRING)


def _view(entity: Entity, name: str, numbers: tuple[str, ...], vector: str) -> FeatureView:
    """What is known of an entity from a midnight on; a ttl of 0 keeps it for ever."""
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        source=FileSource(name=f"{name}_source", path=f"clicks/{name}.parquet", timestamp_field="event_timestamp"),
        schema=[
            *(Field(name=one, dtype=Float32) for one in numbers),
            Field(name=vector, dtype=Array(Float32)),
        ],
    )


shopper_profile = _view(shopper, "shopper_profile", ("rate", "purse"), "taste")
item_daily = _view(item, "item_daily", ("rate", "price"), "topic")

service = FeatureService(name="clicks_ranking", features=[shopper_profile, item_daily])
