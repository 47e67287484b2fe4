"""Builds the adapter that fills each port, from the profile of a project.

Invariant: adapters are made on demand, so a command loads only the systems that it talks to.
"""

from __future__ import annotations

import functools
import hashlib
from datetime import datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from serinus.core.errors import UsageError
from serinus.core.names import DEFAULT_NAMESPACE, ServiceRef, feast_project
from serinus.core.ports import BundleStore, Deployer, Registry, RunTracker
from serinus.features.snapshots import Earlier, FeatureClock, fingerprint
from serinus.features.stores import SQLITE_ONLY, loader_of
from serinus.wiring.deployer import FileDeployer
from serinus.wiring.home_layout import SERVICES
from serinus.wiring.project import Project, load_module, read_yaml

if TYPE_CHECKING:
    from serinus.features.feast_store import FeastStore


def bundle_store(project: Project) -> BundleStore:
    """The named stores of the profile."""
    return project.profile.stores()


def deployer(project: Project) -> Deployer:
    """Service files below the home."""
    folder = project.home / SERVICES
    if not project.profile.salt:
        return FileDeployer(folder)
    return FileDeployer(folder, new_salt=functools.partial(_salt, project))


def _salt(project: Project, service: ServiceRef) -> str:
    """The profile's for the service that it is of. No two services assign units alike, so others derive one."""
    salt, owner = project.profile.salt, project.profile.service
    if service == owner or (owner is None and is_usual(project, service)):
        return salt
    return hashlib.blake2b(f"{salt}\0{service}".encode(), digest_size=8).hexdigest()


def is_usual(project: Project, service: ServiceRef) -> bool:
    """Whether it is the service that a problem of the project has where no other is named."""
    return service.namespace == DEFAULT_NAMESPACE and service.name in project.problem_names()


def tracker(project: Project) -> RunTracker:
    """Runs in MLflow."""
    from serinus.registry.tracker import MlflowTracker

    return MlflowTracker(project.profile.mlflow)


def registry(project: Project) -> Registry:
    """Versions and aliases in MLflow."""
    from serinus.registry.registry import MlflowRegistry

    return MlflowRegistry(project.profile.mlflow)


def feature_store(project: Project, problem: str) -> FeastStore:
    """The problem's Feast project."""
    from serinus.features.feast_store import FeastProject, FeastStore

    repo = project.feature_repo
    definitions = load_module(project.declarations(problem))
    return FeastStore(FeastProject(problem, repo / "feature_store.yaml", definitions, project.home))


def feature_clock(project: Project, problem: str, online: str = "") -> FeatureClock:
    """The clock over the problem's online store, or over another one by its address. Feast is loaded when needed."""
    address = online or online_address(project, problem)
    repo = project.feature_repo
    sources = (project.home / "features" / problem).glob("*.parquet")
    mark = fingerprint([repo / "feature_store.yaml", project.declarations(problem)], sources)
    folder = project.home / "feast" / problem / "snapshots"

    # Loaded once for all days that are made, and only then: Feast takes a second.
    store = functools.cache(lambda: feature_store(project, problem))

    def make(as_of: datetime, path: Path, earlier: Earlier | None) -> None:
        store().write_snapshot(as_of, path, earlier)

    return FeatureClock(folder, mark, make, loader_of(address, feast_project(problem)))


def online_address(project: Project, problem: str) -> str:
    """Where the profile, else Feast's configuration, puts the online store: a path, or an address of Redis."""
    if project.profile.online:
        return project.profile.online
    config = project.feature_repo / "feature_store.yaml"
    document: Any = read_yaml(config)
    values = {"SERINUS_HOME": str(project.home), "SERINUS_PROBLEM": problem}
    store = document.get("online_store", {}) if isinstance(document, dict) else {}
    path = store.get("path")
    if store.get("type") != "sqlite" or not isinstance(path, str):
        raise UsageError(f"{config} does not say where the online store is", hint=SQLITE_ONLY)
    return Template(path).safe_substitute(values)
