"""Builds the adapter that fills each port, from the profile of a project.

Invariant: adapters are made on demand, so a command loads only the systems that it talks to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serinus.core.ports import BundleStore, Deployer, Registry, RunTracker
from serinus.model.store import FolderBundleStore
from serinus.wiring.deployer import FileDeployer
from serinus.wiring.project import Project, load_module

if TYPE_CHECKING:
    from serinus.features.feast_store import FeastStore


def bundle_store(project: Project) -> BundleStore:
    """Bundles in a folder, or on a volume mounted there."""
    return FolderBundleStore(project.home / "bundles")


def deployer(project: Project) -> Deployer:
    """Service files below the home."""
    return FileDeployer(project.home / "services")


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
    definitions = load_module(repo / f"{problem}.py")
    return FeastStore(FeastProject(problem, repo / "feature_store.yaml", definitions, project.home))
