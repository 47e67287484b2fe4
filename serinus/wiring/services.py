"""What is remembered of a service on this machine: what is wanted, what serves, and every revision it ever had.

Invariant: only reads files below the home; no server and no registry is asked, so what serves is known without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serinus.core.errors import NotFound
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.revision import revision_name
from serinus.core.rollout.spec import Revision
from serinus.files import DISK
from serinus.rollout.local_store import LocalRollouts
from serinus.rollout.registry_sync import Synced
from serinus.rollout.service import Wanted, stable_revision
from serinus.wiring.adapters import deployer
from serinus.wiring.project import Project


@dataclass(frozen=True)
class Places:
    """Where a service keeps what its rollouts need, below the home."""

    folder: Path

    @property
    def route(self) -> Path:
        """The route table that callers read."""
        return self.folder / "route.json"

    @property
    def rollouts(self) -> Path:
        """A folder a rollout."""
        return self.folder / "rollouts"

    @property
    def arms(self) -> Path:
        """A record and a log an arm."""
        return self.folder / "arms"

    @property
    def registry(self) -> Path:
        """Whether the registry says what serves."""
        return self.folder / "registry.json"

    @property
    def first(self) -> Path:
        """The revision that came first."""
        return self.folder / "first.json"


@dataclass(frozen=True)
class FirstRevision:
    """`FirstFile`."""

    path: Path

    def get(self) -> Revision | None:
        """See `FirstFile`."""
        return Revision.model_validate_json(self.path.read_bytes()) if self.path.exists() else None

    def put(self, revision: Revision) -> None:
        """See `FirstFile`."""
        DISK.replace(self.path, revision.model_dump_json(indent=1) + "\n")


def places(project: Project, problem: str) -> Places:
    """Of a problem's service."""
    return Places(project.home / "services" / problem)


def rollouts(project: Project, problem: str) -> LocalRollouts:
    """The rollouts of a problem's service."""
    return LocalRollouts(places(project, problem).rollouts)


def wanted(project: Project, problem: str) -> Wanted:
    """What the service file asks for. Raises `NotFound` when nothing was deployed."""
    found = deployer(project).service(problem)
    if found is None:
        raise NotFound(f"nothing is deployed for {problem} yet", hint=f"`serinus pipeline run {problem}` deploys")
    asked = revision(problem, found.version, found.storage_uri, found.template)
    return Wanted(asked, revision(problem, found.first_version, found.first_uri, ""), found.retry)


def in_service(project: Project, problem: str) -> Revision | None:
    """The revision that has the traffic; None before the first."""
    first = FirstRevision(places(project, problem).first)
    return stable_revision(rollouts(project, problem), first)


def known_revision(project: Project, problem: str, version: str) -> Revision | None:
    """Of a version that this service was ever to serve, newest first: its bundle is known without the registry."""
    store = rollouts(project, problem)
    specs = [store.spec(name) for name in reversed(store.names())]
    found = [one for spec in specs for one in (spec.candidate, spec.stable)]
    if deployer(project).service(problem) is not None:
        asked = wanted(project, problem)
        found += [asked.revision, asked.first]
    return next((one for one in found if str(one.model.version) == version), None)


def synced(project: Project, problem: str) -> Synced | None:
    """What the controller last found in the registry; None before it looked."""
    path = places(project, problem).registry
    return Synced.model_validate_json(path.read_bytes()) if path.exists() else None


def revision(problem: str, version: int, uri: str, template: str) -> Revision:
    """A version of a problem's model as it is served; `template` is an entry point with its hash, or nothing."""
    service, name = ServiceRef.parse(problem), revision_name(problem, version, uri, template)
    model = ModelRef(problem, version)
    return Revision(name=name, service=service, model=model, storage_uri=uri, template=template)
