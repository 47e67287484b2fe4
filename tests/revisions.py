"""Revisions by their names, for tests of all that is done with them."""

from __future__ import annotations

from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.spec import Revision


def revision(name: str, version: int, template: str = "", uri: str = "") -> Revision:
    """Of the service and the model that the name begins with."""
    service = ServiceRef.parse(name.rpartition("-v")[0])
    model = ModelRef(service.name, version)
    return Revision(name=name, service=service, model=model, storage_uri=uri or f"file:///{version}", template=template)
