"""The service of the shop in one process: data planes, event log, reduction, judge and engine are the real ones.

Only time and transport are its own: a clock that moves with each visit, and calls instead of HTTP. A route comes into
force `lag` seconds after it was written, as behind a gateway.
Invariant: everything follows from the seed and the world, whatever the machine's pace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from examples.clicks.traffic import CLICKED, Driver
from examples.clicks.versions.alterations import alterations
from examples.clicks.world import Visit, World, item_name
from serinus.client import bucket_of
from serinus.core.card import Problem
from serinus.core.events import Event, Exposure, Outcome, Stream
from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.ports import Applied, Gone, InForce, Pending
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Arm
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.source import KpiEvidence
from serinus.evidence.state import StateFolder
from serinus.features.online import OnlineReader
from serinus.model.bundle import Bundle
from serinus.rollout.engine import Engine, Ports
from serinus.rollout.local_service import LocalService
from serinus.rollout.local_store import LocalRollouts
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane
from serinus.serving.recorder import Identity
from serinus.serving.request import Caller, Instance

BEGINS = 1_800_000_000.0
SALT = "5a17"
# Visits of one rollout at most.
MOST = 20_000


@dataclass
class Clock:
    """Seconds since the epoch; moves when told to."""

    now: float = BEGINS

    def __call__(self) -> float:
        return self.now

    def moment(self) -> datetime:
        """The same as a time."""
        return datetime.fromtimestamp(self.now, UTC)

    def forward(self, seconds: float) -> None:
        """Also what a version that is slow does instead of sleeping."""
        self.now += seconds


@dataclass
class Buffered:
    """`ExposureLog` and outcomes: what a tick finds on disk."""

    log: ParquetEventLog
    rows: dict[Stream, list[Event]] = field(default_factory=lambda: {stream: [] for stream in Stream})
    numbers: dict[str, int] = field(default_factory=dict)

    def put(self, exposure: Exposure, beside: Mapping[Stream, Event]) -> bool:
        """See `ExposureLog`."""
        number = self.numbers[exposure.revision] = self.numbers.get(exposure.revision, -1) + 1
        self.rows[Stream.EXPOSURES].append(replace(exposure, writer=exposure.revision, sequence=number))
        for stream, row in beside.items():
            self.rows[stream].append(row)
        return True

    def flush(self) -> None:
        """All of it."""
        for stream, rows in self.rows.items():
            self.log.append(stream, rows)
            rows.clear()


@dataclass
class Planes:
    """`Arms`: a data plane a revision. A template `versions/NAME.py` names what is wrong with it."""

    card: Problem
    reader: OnlineReader
    bundles: dict[str, Bundle]
    log: Buffered
    clock: Clock
    running: dict[str, DataPlane] = field(default_factory=dict)

    def ensure(self, revision: Revision) -> None:
        """See `Arms`."""
        if revision.name in self.running:
            return
        name = Path(revision.template.partition("@")[0]).stem or "same"
        self.running[revision.name] = DataPlane(
            Identity(revision.service, SALT, str(revision.model.version), revision.name),
            self.bundles[revision.storage_uri],
            self.reader,
            self.log,
            ServingMetrics(CollectorRegistry()),
            covariates=self.card.requirements.covariates,
            inputs_share=self.card.operation.inputs_share,
            alter=alterations(self.clock.forward)[name],
            now=self.clock.moment,
            clock=self.clock,
        )

    def condition(self, revision: Revision) -> ArmCondition:
        """See `Arms`."""
        ready = Readiness.READY if revision.name in self.running else Readiness.STARTING
        return ArmCondition(readiness=ready, since=BEGINS)

    def remove(self, revision: Revision) -> Gone:
        """See `Arms`."""
        self.running.pop(revision.name, None)
        return Gone()


@dataclass
class Table:
    """`Splitter`: the route that callers follow, `lag` seconds after it was written."""

    clock: Clock
    lag: float = 0.0
    written: list[tuple[float, Route]] = field(default_factory=list)

    def apply(self, route: Route) -> Applied:
        """See `Splitter`."""
        if not self.written or self.written[-1][1] != route:
            self.written.append((self.clock.now + (self.lag if self.written else 0.0), route))
        begins = self.written[-1][0]
        return InForce(begins) if begins <= self.clock.now else Pending("the gateway has not taken it up")

    def current(self) -> Route:
        """The one in force."""
        return next(route for begins, route in reversed(self.written) if begins <= self.clock.now)


@dataclass(frozen=True)
class Trained:
    """What a pipeline has left: the card, its bundles by URI, and the online store."""

    card: Problem
    bundles: dict[str, Bundle]
    reader: OnlineReader


class InProcess:
    """A service that answers visits; ticks its rollout once a second of its clock. `folder` is empty."""

    def __init__(
        self,
        trained: Trained,
        world: World,
        folder: Path,
        *,
        rate: float = 200.0,
        lag: float = 0.0,
        first: int = 0,
    ) -> None:
        self.clock, self.world, self._card, self._rate = Clock(), world, trained.card, rate
        log = ParquetEventLog(folder / "events", writer="shop", now=self.clock)
        self._log = Buffered(log)
        self.arms = Planes(trained.card, trained.reader, trained.bundles, self._log, self.clock)
        self.table = Table(self.clock, lag)
        plan = KpiPlan.of(trained.card)
        self.reducer = KpiReducer(log, StateFolder(folder / "reduced"), plan)
        covariates = trained.card.requirements.covariates
        evidence = KpiEvidence(self.reducer, plan, covariates, now=self.clock)
        self.store = LocalRollouts(folder / "rollouts")
        service = LocalService(folder / "memory.json", folder / "first.json", self.store, lambda: self._wanted)
        ports = Ports(self.arms, self.table, evidence, service)
        self.engine = Engine(ports, self.clock)
        self._driver = Driver(world, self._ask, self._report, self.clock)
        self._first = self._next = first
        self._wanted: Wanted

    def roll_out(self, stable: Revision, candidate: Revision, *, seed: int, most: int) -> RolloutState:
        """A rollout to its end, or for at most so many visits; the state it was left in."""
        spec = RolloutSpec(
            name=candidate.name,
            service=stable.service,
            stable=stable,
            candidate=candidate,
            seed=seed,
            policy=self._card.operation.rollout,
            kpis=self._card.requirements.kpis,
            independent_outcomes=False,
            created_at=self.clock.now,
        )
        self._wanted = Wanted(candidate, stable)
        self.arms.ensure(stable)
        self.table.apply(_alone(spec))
        self.store.create(spec)
        state = self.engine.tick(spec.name)
        while not state.phase.ended and self.visits < most:
            self.live(1.0)
            state = self.engine.tick(spec.name)
        return state

    @property
    def visits(self) -> int:
        """That were played so far."""
        return self._next - self._first

    def live(self, seconds: float) -> None:
        """Visits of so long; then what they left is on disk, and windows that are over are closed."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self._driver.play(self.world.visit(self._next))
            self._next += 1
            self.clock.forward(1.0 / self._rate)
        self._log.flush()
        self.reducer.reduce(self.clock.now)

    def _ask(self, visit: Visit) -> Sequence[str] | None:
        route, bucket = self.table.current(), bucket_of(SALT, visit.shopper.name)
        arm = route.canary if route.canary and route.assigned(bucket) is Arm.CANARY else route.stable
        items = tuple(item_name(int(item)) for item in visit.items)
        asked = Instance(entity=visit.shopper.name, items=items, request_id=visit.request_id)
        try:
            return self.arms.running[arm].answer(asked, Caller(bucket=f"{bucket:03d}")).items
        except ZeroDivisionError:  # of version `failing`
            return None

    def _report(self, clicks: Sequence[object]) -> None:
        for one in clicks:
            assert isinstance(one, dict)  # noqa: S101 - what the driver made
            self._log.rows[Stream.OUTCOMES].append(
                Outcome(
                    id=str(one["id"]), name=CLICKED, request_id=str(one["request_id"]), unit="", item=str(one["item"]),
                    value=1.0, as_of=self.clock.now, at=self.clock.now,
                )
            )  # fmt: skip


def rolled_out(
    trained: Trained, world: World, folder: Path, stable: Revision, candidate: Revision, *, seed: int, most: int = MOST
) -> tuple[RolloutState, int]:
    """One rollout among visitors of its own, which the seed chooses: how it ended, and how many it took."""
    service = InProcess(trained, world, folder, first=seed * MOST)
    state = service.roll_out(stable, candidate, seed=seed, most=most)
    return state, service.visits


def _alone(spec: RolloutSpec) -> Route:
    """All visits to the stable revision."""
    return Route(service=spec.service, rollout="", number=0, stable=spec.stable.name, seed=0, hold_back=0)
