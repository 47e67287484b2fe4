"""From a problem's name to the settings of its predictor: which version, which bundle, which stores.

Invariant: the salt is the service's own; a folder or an older version is served with it as well, so a unit keeps its
bucket whatever is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serinus.core.errors import NotFound, UsageError
from serinus.core.ports import Service
from serinus.core.revision import revision_name
from serinus.model.bundle import content_hash, read_manifest
from serinus.wiring.adapters import deployer, online_address, registry
from serinus.wiring.project import Project
from serinus.wiring.settings import CollectSettings, ServeSettings


@dataclass(frozen=True)
class Wish:
    """What a user asks to be served: nothing (the wanted version), a version or alias, or a bundle's folder."""

    problem: str
    version: str = ""
    bundle: str = ""
    online: str = ""
    accept_event_time: bool = False


def serve_settings(project: Project, wish: Wish, *, host: str, http_port: int, grpc_port: int) -> ServeSettings:
    """Raises `NotFound` when nothing is deployed yet, `UsageError` when the bundle is another problem's."""
    service = service_of(project, wish.problem)
    version, uri = _bundle(project, wish, service)
    return ServeSettings(
        service=wish.problem,
        salt=service.salt,
        version=version,
        revision=revision_name(wish.problem, version, uri),
        storage_uri=uri,
        online=wish.online or online_address(project, wish.problem),
        events=str(events_folder(project, wish.problem)),
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        accept_event_time=wish.accept_event_time,
        covariates=project.problem(wish.problem).card.requirements.covariates,
    )


def collect_settings(
    project: Project, problem: str, *, host: str, port: int, accept_event_time: bool
) -> CollectSettings:
    """The collector of a problem's service. Raises `NotFound` when nothing is deployed yet."""
    service_of(project, problem)
    folder = str(events_folder(project, problem))
    return CollectSettings(service=problem, folder=folder, host=host, port=port, accept_event_time=accept_event_time)


def service_of(project: Project, problem: str) -> Service:
    """The problem's service. Raises `NotFound` when none was ever deployed."""
    project.problem(problem)
    found = deployer(project).service(problem)
    if found is None:
        raise NotFound(
            f"nothing is deployed for {problem} yet", hint=f"`serinus pipeline run {problem}` trains and deploys"
        )
    return found


def events_folder(project: Project, problem: str) -> Path:
    """The event log of a problem's service."""
    return project.home / "events" / problem


def _bundle(project: Project, wish: Wish, service: Service) -> tuple[str, str]:
    """Version and storage URI."""
    if wish.bundle:
        folder = Path(wish.bundle).resolve()
        problem = read_manifest(folder).problem
        if problem != wish.problem:
            raise UsageError(f"the bundle in {folder} is of problem {problem}, not {wish.problem}")
        return f"local-{content_hash(folder)[:6]}", str(folder)
    if not wish.version or wish.version == str(service.version):
        return str(service.version), service.storage_uri
    found = registry(project).version(wish.problem, wish.version)
    return str(found.version), found.storage_uri
