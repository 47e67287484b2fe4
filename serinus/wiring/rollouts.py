"""The rollouts of a service on this machine: arms are processes, the route is a file, evidence is the event log.

Invariant: one controller a service at a time, by a lock that the system lets go of when its process ends, and with it
the arms that it runs.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import serinus
from serinus.core.card import Problem
from serinus.core.errors import Conflict, SerinusError, Unavailable, UsageError
from serinus.core.names import ServiceRef
from serinus.core.ports import BundleStore, Service
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.evidence.plan import KpiPlan
from serinus.evidence.source import KpiEvidence
from serinus.files import DISK
from serinus.rollout.engine import Ports
from serinus.rollout.local_arms import LocalArms
from serinus.rollout.local_routes import LocalSplitter
from serinus.rollout.local_store import LocalRollouts
from serinus.rollout.registry_sync import RegistrySync, Synced
from serinus.rollout.service import Make, ServiceController, ServiceView
from serinus.wiring.adapters import bundle_store, deployer, online_address, registry
from serinus.wiring.disk_faults import accessible
from serinus.wiring.evidence import reducer
from serinus.wiring.lifeline import held
from serinus.wiring.project import Project
from serinus.wiring.services import events_address, events_folder, places, rollouts, service_of, service_store
from serinus.wiring.serving import predictor_command
from serinus.wiring.settings import ServeSettings

SEED_BITS = 48
# An orderly end waits so long for a registry that is being told; the next controller tells what is left.
SETTLE_SECONDS = 20.0
Now = Callable[[], float]


@dataclass(frozen=True)
class Hosting:
    """How a controller hosts arms: `event_time` for replays, and what makes time and seeds."""

    event_time: bool = False
    online: str = ""
    now: Now = time.time
    new_seed: Callable[[], int] = lambda: secrets.randbits(SEED_BITS)


@dataclass(frozen=True)
class Hosted:
    """A controller with the arms that it runs."""

    controller: ServiceController
    arms: LocalArms
    rollouts: LocalRollouts
    registry: RegistrySync

    def stop(self) -> None:
        """Stops every arm; the state stays, and another controller brings them back."""
        for name in self.arms.running():
            self.arms.stop(name)


@contextmanager
def hosted(project: Project, service: ServiceRef, hosting: Hosting) -> Iterator[Hosted]:
    """The controller of a service, its arms stopped at the end. Raises `Conflict` while another one runs."""
    service_of(project, service)
    place = places(project, service)
    taken = Conflict(f"another process runs the rollouts of {service.shown}", hint="stop that one first")
    with held(place.folder / ".lock", taken):
        made = _host(project, service, hosting)
        try:
            yield made
            made.registry.settle(SETTLE_SECONDS)
        finally:
            made.stop()


def tick(host: Hosted, reduce: Callable[[float], object], now: Now) -> ServiceView | SerinusError:
    """One tick of a controller whose arms serve: what does not answer now (a full disk, too) waits for the next.

    Without a reduction there is no evidence, and everything else goes on.
    """
    missing = _fault_of(lambda: reduce(now()))
    views = list[ServiceView]()
    absent = missing.headline if missing else ""
    fault = _fault_of(lambda: views.append(host.controller.tick(absent)))
    return missing or fault or views[0]


def _fault_of(work: Callable[[], object]) -> SerinusError | None:
    try:
        with accessible():
            work()
    except (Conflict, Unavailable) as fault:
        return fault
    return None


def _host(project: Project, ref: ServiceRef, hosting: Hosting) -> Hosted:
    service = service_of(project, ref)
    card, place = project.problem(service.problem).card, places(project, ref)
    launch = _launch(project, card, service, hosting)
    arms = LocalArms(place.arms, ref.name, launch, now=hosting.now, made_of=_code())
    # A replay waits until nothing is under way before the route changes; live callers may be a moment late.
    settle = 0.0 if hosting.event_time else 2.0
    ports = Ports(
        arms=arms,
        splitter=LocalSplitter(place.route, service.salt, arms.endpoint, hosting.now),
        evidence=KpiEvidence(
            reducer(project, ref, card), KpiPlan.of(card), card.requirements.covariates, now=hosting.now, settle=settle
        ),
        store=service_store(project, ref),
    )
    sync = RegistrySync(
        registry(project), _teller(place.registry), hosting.now, heir=lambda one: _heir(project, one, service.problem)
    )
    controller = ServiceController(ports, sync, _maker(card, hosting), hosting.now)
    return Hosted(controller, arms, rollouts(project, ref), sync)


def _heir(project: Project, service: ServiceRef, problem: str) -> ServiceRef:
    """The usual service of a problem where there is one: whichever serves first, that decides no alias."""
    usual = ServiceRef.parse(problem)
    known = deployer(project).service(usual)
    return usual if known is not None and known.problem == problem else service


def _code() -> str:
    """Of which files the predictor is made; another release of it is another predictor."""
    digest = hashlib.sha256()
    for path in sorted(Path(serinus.__file__).parent.rglob("*.py")):
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _teller(path: Path) -> Callable[[Synced], None]:
    return lambda found: DISK.replace(path, found.model_dump_json(indent=1) + "\n")


def _maker(card: Problem, hosting: Hosting) -> Make:
    def make(name: str, asked: Wanted, stable: Revision) -> RolloutSpec:
        return RolloutSpec(
            name=name,
            service=asked.revision.service,
            stable=stable,
            candidate=asked.revision,
            retry=asked.retry,
            seed=hosting.new_seed(),
            policy=card.operation.rollout,
            kpis=card.requirements.kpis,
            independent_outcomes=card.framing.outcomes == "independent_of_ranking",
            created_at=hosting.now(),
        )

    return make


def _address(bundles: BundleStore, uri: str) -> str:
    """Of a store that is not known here, its name: the arm will not start with it, and what serves goes on."""
    try:
        return bundles.address(uri)
    except UsageError:
        return uri


def _launch(
    project: Project, card: Problem, service: Service, hosting: Hosting
) -> Callable[[Revision, int], Sequence[str]]:
    """The command of an arm: the predictor, or the entry point that the revision names.

    Made of what is known now: an arm that differs from it is replaced, and a file that somebody edits replaces none.
    """
    online, bundles = hosting.online or online_address(project, card.name), bundle_store(project)

    def launch(revision: Revision, port: int) -> Sequence[str]:
        settings = ServeSettings(
            service=service.ref,
            salt=service.salt,
            version=revision.model.version,
            revision=revision.name,
            storage_uri=_address(bundles, revision.storage_uri),
            online=online,
            events=events_address(project, service.ref),
            writers=str(events_folder(project, service.ref) / "writers"),
            http_port=port,
            grpc_port=0,
            accept_event_time=hosting.event_time,
            covariates=card.requirements.covariates,
            inputs_share=card.operation.inputs_share,
            unit=card.framing.unit,
        )
        return predictor_command(project.root, revision.template, settings)

    return launch
