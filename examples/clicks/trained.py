"""What a pipeline of the shop left behind, loaded for truth and for the service in one process.

Invariant: read as a predictor reads it; nothing is trained here.
"""

from __future__ import annotations

from pathlib import Path

from examples.clicks.in_process import Trained
from examples.clicks.truth import Served
from examples.clicks.versions.alterations import alterations
from serinus.core.errors import NotFound
from serinus.core.names import ServiceRef
from serinus.core.rollout.spec import Revision
from serinus.model.bundle import read_bundle
from serinus.wiring.adapters import bundle_store, online_address
from serinus.wiring.project import Project
from serinus.wiring.rollout_start import template
from serinus.wiring.serve import online_reader
from serinus.wiring.services import revision, service_of

PROBLEM = "clicks"
SERVICE = ServiceRef.parse(PROBLEM)


def load(project: Project) -> Trained:
    """Both versions. Raises `NotFound` when no pipeline has run."""
    try:
        service = service_of(project, SERVICE)
    except NotFound as fault:
        raise NotFound(
            f"no versions are trained in {project.home}", hint="`make quick` trains and plays them"
        ) from fault
    stored = bundle_store(project)
    bundles = {uri: read_bundle(stored.get(uri)) for uri in (service.first_uri, service.storage_uri)}
    reader = online_reader(online_address(project, PROBLEM), bundles[service.storage_uri])
    return Trained(project.problem(PROBLEM).card, bundles, reader)


def first(project: Project) -> Revision:
    """The linear model, which serves first."""
    service = service_of(project, SERVICE)
    return revision(SERVICE, service.first_model, service.first_uri)


def second(project: Project, version: str = "") -> Revision:
    """The trees; or one of the versions that are made of them."""
    service = service_of(project, SERVICE)
    return revision(SERVICE, service.model, service.storage_uri, template(project.root, entry_point(version)))


def entry_point(version: str) -> str:
    """The file of a version, below the project."""
    return str(Path("versions") / f"{version}.py") if version else ""


def served(trained: Trained, which: Revision, version: str = "") -> Served:
    """As it is served; waiting is left out, which no order depends on."""
    alter = alterations(lambda _: None)[version or "same"]
    return Served(trained.bundles[which.storage_uri], trained.reader, alter)
