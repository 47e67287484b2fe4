"""What a problem's Feast module declares, read from the declarations alone: no registry, no store, nothing written.

Invariant: a service described here is the one that the registry would describe after `apply`, but for its hash.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from serinus.features import feast_store  # noqa: F401 - imports Feast in the way that is quick
from serinus.features.keys import KEY_TYPES
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo

if TYPE_CHECKING:
    from feast import Entity


def declared_service(definitions: ModuleType, name: str) -> ServiceInfo | None:
    """The feature service of that name, or None. Views of a kind that cannot be looked up are told when applied."""
    from feast import Entity, FeatureService, FeatureView

    things = list(vars(definitions).values())
    service = next((one for one in things if isinstance(one, FeatureService) and one.name == name), None)
    if service is None:
        return None
    views = {one.name: one for one in things if isinstance(one, FeatureView)}
    entities = {one.name: one for one in things if isinstance(one, Entity)}
    found = []
    for projection in service.feature_view_projections:
        view = views.get(projection.name)
        entity = view.entities[0] if view is not None and view.entities else ""
        found.append(
            ViewInfo(
                name=projection.name,
                entity=entity,
                join_key=entities[entity].join_key if entity in entities else "",
                key_type=_key_type(entities.get(entity)),
                ttl_seconds=0.0,
                features=tuple(FeatureInfo(name=one.name, type=str(one.dtype)) for one in projection.features),
            )
        )
    return ServiceInfo(project="", name=name, views=tuple(found))


def _key_type(entity: Entity | None) -> str:
    """Empty where Feast would find it in the source, or where the view is told when applied."""
    kind = "" if entity is None else str(entity.value_type.name)
    return kind if kind in KEY_TYPES else ""


def services(definitions: ModuleType) -> list[str]:
    """The names of all feature services that are declared."""
    from feast import FeatureService

    return sorted(one.name for one in vars(definitions).values() if isinstance(one, FeatureService))
