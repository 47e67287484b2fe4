"""What a predictor must know of a feature service to read it: plain data, made from Feast's registry once.

Invariant: equal hashes mean equal names, types, entities and expiry; the reader works from this value alone, so serving
never imports Feast.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureInfo(_Part):
    """A feature and its Feast type, for example `Float32` or `Array(String)`."""

    name: str
    type: str


class ViewInfo(_Part):
    """A view: the entity it belongs to, the key it is stored under, and when its rows expire (0 = never)."""

    name: str
    entity: str
    join_key: str
    key_type: str
    ttl_seconds: float
    features: tuple[FeatureInfo, ...]


class ServiceInfo(_Part):
    """A feature service of a Feast project."""

    project: str
    name: str
    views: tuple[ViewInfo, ...]

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the definitions."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    def of_entity(self, entity: str) -> tuple[ViewInfo, ...]:
        """The views stored under an entity."""
        return tuple(view for view in self.views if view.entity == entity)
