"""From a service to the settings of its predictor: which version, which bundle, which stores.

Invariant: the salt is the service's own; a folder or an older version is served with it as well, so a unit keeps its
bucket whatever is served.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from serinus.core.card import Problem
from serinus.core.errors import NotFound, SerinusError, Unavailable, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import Service
from serinus.core.revision import revision_name
from serinus.features.keys import IdKinds
from serinus.model.bundle import content_hash, read_manifest
from serinus.wiring.adapters import bundle_store, online_address, registry
from serinus.wiring.project import Project
from serinus.wiring.services import (
    asked,
    card_of,
    events_address,
    events_folder,
    in_service,
    known_revision,
    revision_of,
    rollouts,
    service_of,
    service_store,
)
from serinus.wiring.settings import CollectSettings, ServeSettings


@dataclass(frozen=True)
class Wish:
    """What a user asks to be served: nothing (what is in service), a version or alias, or a bundle's folder."""

    service: ServiceRef
    version: str = ""
    bundle: str = ""
    online: str = ""
    accept_event_time: bool = False


@dataclass(frozen=True)
class Choice:
    """What is to be served: version, bundle, the entry point where that is not the usual one, and why.

    A bundle's folder has no version, but is called `local-<hash6>` by its content.
    """

    version: int | str
    storage_uri: str
    template: str = ""
    why: str = ""


def choose(project: Project, wish: Wish) -> Choice:
    """Raises `NotFound` when there is no such service, `UsageError` when the bundle is another problem's."""
    return _asked(project, wish, service_of(project, wish.service))


def serve_settings(project: Project, wish: Wish, *, host: str, http_port: int, grpc_port: int) -> ServeSettings:
    """Of what the wish asks for. Raises what `choose` does."""
    return settings_of(project, wish, choose(project, wish), host=host, http_port=http_port, grpc_port=grpc_port)


def settings_of(
    project: Project, wish: Wish, choice: Choice, *, host: str, http_port: int, grpc_port: int
) -> ServeSettings:
    """The predictor's settings for what was chosen."""
    service = service_of(project, wish.service)
    card = project.problem(service.problem).card
    return ServeSettings(
        service=service.ref,
        salt=service.salt,
        version=choice.version,
        revision=_name(project, service, choice),
        storage_uri=bundle_store(project).address(choice.storage_uri),
        online=wish.online or online_address(project, service.problem),
        events=events_address(project, service.ref),
        writers=str(events_folder(project, service.ref) / "writers"),
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        accept_event_time=wish.accept_event_time,
        covariates=card.requirements.covariates,
        inputs_share=card.operation.inputs_share,
        unit=card.framing.unit,
    )


def _name(project: Project, service: Service, choice: Choice) -> str:
    """Of the revision; a bundle's folder is no version, and has none but the one that follows from it."""
    if isinstance(choice.version, str):
        return revision_name(service.ref.name, choice.version, choice.storage_uri, choice.template)
    model = ModelRef(service.problem, choice.version)
    return revision_of(project, service.ref, model, choice.storage_uri, choice.template).name


def predictor_command(root: Path, template: str, settings: ServeSettings) -> list[str]:
    """The predictor, or the entry point of the project in `root` that a template names."""
    usual = ["-m", "serinus.wiring.start", "serinus.wiring.serve"]
    entry = [str(root / template.partition("@")[0])] if template else usual
    return [sys.executable, *entry, settings.model_dump_json()]


def collect_settings(
    project: Project, service: ServiceRef, *, host: str, port: int, accept_event_time: bool
) -> CollectSettings:
    """The collector of a service. Raises `NotFound` when there is none."""
    label, *others = outcome_names(card_of(project, service))
    return CollectSettings(
        service=service,
        folder=str(events_folder(project, service)),
        label=label,
        outcomes=tuple(others),
        events=project.profile.events,
        host=host,
        port=port,
        accept_event_time=accept_event_time,
        kinds=id_kinds(project, service),
    )


def outcome_names(card: Problem) -> tuple[str, ...]:
    """The label, then the other outcomes of the card's KPIs, by name."""
    label = card.framing.label.name
    return (label, *sorted({kpi.outcome for kpi in card.requirements.kpis if kpi.outcome} - {label}))


def id_kinds(project: Project, service: ServiceRef) -> IdKinds:
    """The key types of the version that is wanted; text where its bundle cannot be read here."""
    uri, framing = service_of(project, service).storage_uri, card_of(project, service).framing
    try:
        definitions = read_manifest(bundle_store(project).get(uri)).features.definitions
    except SerinusError:
        definitions = {}
    return IdKinds.of(definitions, framing.entity, framing.unit, framing.item)


def version_of(project: Project, problem: str, which: str) -> tuple[ModelRef, str]:
    """The version of a number or alias, and its storage URI.

    A version that a service had before is known without the registry: it may be away, and people delete there.
    Raises `NotFound`, and `Unavailable` for what only the registry knows.
    """
    try:
        found = registry(project).version(problem, which)
    except (NotFound, Unavailable):
        known = known_revision(project, ModelRef(problem, int(which))) if which.isdecimal() else None
        if known is None:
            raise
        return known.model, known.storage_uri
    return ModelRef(problem, found.version), bundle_store(project).named(found.storage_uri)


def _asked(project: Project, wish: Wish, service: Service) -> Choice:
    if wish.bundle:
        folder = Path(wish.bundle).resolve()
        problem = read_manifest(folder).problem
        if problem != service.problem:
            raise UsageError(f"the bundle in {folder} is of problem {problem}, not {service.problem}")
        return Choice(f"local-{content_hash(folder)[:6]}", str(folder), why="as asked")
    if wish.version:
        if wish.version == str(service.version):
            return Choice(service.version, service.storage_uri, why="as asked")
        model, uri = version_of(project, service.problem, wish.version)
        return Choice(model.version, uri, why="as asked")
    return _default(project, service)


def _default(project: Project, service: Service) -> Choice:
    """What is in service: a version that a rollout has refused is still wanted, and must not serve."""
    serves = in_service(project, service.ref)
    if serves is None:
        return Choice(service.version, service.storage_uri, service.template, "wanted, and nothing serves yet")
    new = asked(project, service.ref)
    if new.revision == serves:
        return Choice(serves.model.version, serves.storage_uri, serves.template, "in service")
    store, refusal = rollouts(project, service.ref), service_store(project, service.ref).memory().refusal(new.revision)
    known = new.rollout in store.names()
    phase = store.state(new.rollout).phase if known else refusal.phase if refusal else "not rolled out yet"
    why = f"in service; version {new.revision.model.version} is wanted: {phase}"
    return Choice(serves.model.version, serves.storage_uri, serves.template, why)
