"""What is remembered of the services on this machine: what is wanted, what serves, and every revision it ever had.

Invariant: only reads files below the home; no server and no registry is asked, so what serves is known without them.
What is of one service is below a folder of its own, so services never meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serinus.core.bundles import content_of
from serinus.core.card import Problem
from serinus.core.errors import Conflict, NotFound, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import Service
from serinus.core.revision import revision_name
from serinus.core.rollout.memory import Wanted, rollout_name
from serinus.core.rollout.spec import Revision
from serinus.evidence.logs import in_folder
from serinus.rollout.local_service import LocalService
from serinus.rollout.local_store import LocalRollouts, mark_at, read_document
from serinus.rollout.registry_sync import Synced
from serinus.wiring.adapters import deployer, is_usual
from serinus.wiring.deployer import FILE
from serinus.wiring.home_layout import EVENTS, SERVICES
from serinus.wiring.project import Project


@dataclass(frozen=True)
class Places:
    """Where a service keeps what its rollouts need, below the home."""

    folder: Path

    @property
    def wish(self) -> Path:
        """Which version is wanted."""
        return self.folder / FILE

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
    def memory(self) -> Path:
        """Who serves, by which route, and what was tried."""
        return self.folder / "memory.json"

    @property
    def first(self) -> Path:
        """The revision that came first, as an earlier release remembered it."""
        return self.folder / "first.json"


def places(project: Project, service: ServiceRef) -> Places:
    """Of a service, whether there is one yet or not."""
    return Places(project.home / SERVICES / service.namespace / service.name)


def events_folder(project: Project, service: ServiceRef) -> Path:
    """The event log of a service."""
    return project.home / EVENTS / service.namespace / service.name


def events_address(project: Project, service: ServiceRef) -> str:
    """Where its predictors log: the Redis of the profile, or the event log itself.

    Raises `UsageError` for a folder of the profile: services would meet there, and no KPI reads it.
    """
    if project.profile.events and in_folder(project.profile.events):
        raise UsageError(
            f"{project.profile.events} is no address of a Redis for events",
            hint="`events` of the profile and SERINUS_EVENTS name a Redis; without, each service logs to its folder",
        )
    return project.profile.events or str(events_folder(project, service))


def service_of(project: Project, service: ServiceRef) -> Service:
    """The service as it is wanted. Raises `NotFound`, saying how it comes to be, when there is none."""
    found = deployer(project).service(service)
    if found is not None:
        return found
    if is_usual(project, service):
        name = project.problem(service.name).card.name
        raise NotFound(f"nothing is deployed for {name} yet", hint=f"`serinus pipeline run {name}` trains and deploys")
    known = ", ".join(one.shown for one in deployer(project).known()) or "none yet"
    raise NotFound(
        f"no service {service.shown}",
        cause=f"services here: {known}; problems: {', '.join(project.problem_names()) or 'none'}",
        hint=f"`serinus rollout start {service.shown} --problem P --version N` makes it, to serve that version",
    )


def services_of(project: Project, problem: str) -> list[Service]:
    """All services of a problem, in order of their names."""
    deployed = deployer(project)
    found = [one for one in map(deployed.service, deployed.known()) if one is not None]
    return [one for one in found if one.problem == problem]


def require_free(project: Project, service: ServiceRef, problem: str) -> None:
    """Raises `Conflict` when the service is another problem's, or has the name of another problem's usual one, and
    `NotFound` for an unknown problem. The card is not read.
    """
    if problem not in project.problem_names():
        project.problem(problem)  # says so
    found = deployer(project).service(service)
    usual = service.name if is_usual(project, service) else problem
    owner = found.problem if found else usual
    if owner != problem:
        raise Conflict(
            f"service {service.shown} is {'one' if found else 'the usual one'} of {owner}, not of {problem}",
            hint="a service keeps its problem; give this one another name",
        )


def card_of(project: Project, service: ServiceRef) -> Problem:
    """The card of a service's problem. Raises what `service_of` does."""
    return project.problem(service_of(project, service).problem).card


def rollouts(project: Project, service: ServiceRef) -> LocalRollouts:
    """The rollouts of a service."""
    return LocalRollouts(places(project, service).rollouts)


def wanted(project: Project, service: ServiceRef) -> Wanted:
    """What the service file asks for. Raises what `service_of` does."""
    return _wanted(project, service, service_store(project, service))


def _wanted(project: Project, service: ServiceRef, store: LocalService) -> Wanted:
    found = service_of(project, service)
    wish = _revision_of(store, service, found.model, found.storage_uri, found.template)
    return Wanted(wish, _revision_of(store, service, found.first_model, found.first_uri), found.retry)


def in_service(project: Project, service: ServiceRef) -> Revision | None:
    """The revision that has the traffic; None before the first."""
    return service_store(project, service).memory().stable


def service_store(project: Project, service: ServiceRef) -> LocalService:
    """The memory of a service, with its rollouts and its wish."""
    place = places(project, service)
    # One store of rollouts for both: a tick parses each of them once, however many there were.
    store = LocalService(
        place.memory,
        place.first,
        rollouts(project, service),
        lambda: _wanted(project, service, store),
        mark=lambda: mark_at(place.wish),
    )
    return store


@dataclass(frozen=True)
class Asked:
    """The revision that is wanted, and the name of the rollout that brings it, or brought it."""

    revision: Revision
    rollout: str


def asked(project: Project, service: ServiceRef) -> Asked:
    """What is wanted of a service, as people are told. Raises what `service_of` does."""
    wish = wanted(project, service)
    return Asked(wish.revision, rollout_name(service_store(project, service).memory(), wish))


def known_revision(project: Project, model: ModelRef) -> Revision | None:
    """Of a version that a service was ever to serve, newest first: its bundle is known without the registry."""
    found = [one for service in services_of(project, model.name) for one in _revisions(project, service.ref)]
    return next((one for one in found if one.model == model), None)


def _revisions(project: Project, service: ServiceRef) -> list[Revision]:
    """All that a service ever had, newest first."""
    wish = wanted(project, service)
    return [*service_store(project, service).had(), wish.revision, wish.first]


def synced(project: Project, service: ServiceRef) -> Synced | None:
    """What the controller last found in the registry; None before it looked."""
    path = places(project, service).registry
    return read_document(path, Synced) if path.exists() else None


def revision_of(project: Project, service: ServiceRef, model: ModelRef, uri: str, template: str = "") -> Revision:
    """A version as a service serves it: under the name that it has there already, else under the one that follows.

    Where a bundle is said to be can change (release 0.1 named places on a disk): log, routes and callers know the name
    that was given first, and no rollout begins because a home was converted.
    """
    return _revision_of(service_store(project, service), service, model, uri, template)


def _revision_of(store: LocalService, service: ServiceRef, model: ModelRef, uri: str, template: str = "") -> Revision:
    asked = revision(service, model, uri, template)
    return next((one for one in store.had() if _is_same(one, asked)), asked)


def _is_same(one: Revision, other: Revision) -> bool:
    served, asked = ((it.model, content_of(it.storage_uri), it.template) for it in (one, other))
    return served == asked


def revision(service: ServiceRef, model: ModelRef, uri: str, template: str = "") -> Revision:
    """A version as a service serves it; `template` is an entry point with its hash, or nothing."""
    name = revision_name(service.name, model.version, uri, template)
    return Revision(name=name, service=service, model=model, storage_uri=uri, template=template)
