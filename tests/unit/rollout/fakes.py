"""The ports of a rollout in memory: a world that outlives the engines that are killed in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from serinus.core.card.operation import Rollout, Step
from serinus.core.errors import Conflict, NotFound
from serinus.core.kpi import Kpi
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.ports import ModelVersion
from serinus.core.rollout.evidence import ArmCondition, Readiness
from serinus.core.rollout.memory import ServiceMemory, Wanted
from serinus.core.rollout.ports import (
    Applied,
    Change,
    FirstSeen,
    Gone,
    InForce,
    Pending,
    Removed,
    RolloutEvidence,
    Snapshot,
    Stored,
    Unsupported,
)
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.moments import Cell, Moments
from serinus.core.stats.reading import Look
from serinus.core.words import Arm, Phase, Stage
from serinus.rollout.engine import Ports
from serinus.rollout.registry_sync import RegistrySync, Synced
from serinus.rollout.service import ServiceController
from serinus.rollout.tick import Limit

START = 1_700_000_000.0
UNITS_A_LOOK = 100
HITS = Kpi(
    name="hits",
    formula="hits_at_k",
    k=10,
    direction="higher",
    role="goal",
    per="request",
    non_inferiority_margin=0.1,
    look_every=UNITS_A_LOOK,
)


TOY = ServiceRef("default", "toy")


def revision(version: int, template: str = "") -> Revision:
    """As the wiring names them."""
    name, uri = f"toy-v{version}-{'f' * 5}{template or '0'}", f"file:///{version}"
    return Revision(name=name, service=TOY, model=ModelRef("toy", version), storage_uri=uri, template=template)


ONE, TWO, THREE = revision(1), revision(2), revision(3)


# The rollouts that bring these, when each is the change after the one before it.
SECOND, THIRD = f"{TWO.name}-2", f"{THREE.name}-3"


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class World:
    """Everything outside of an engine. `effect` is the candidate's true one; `broken` revisions never become ready,
    and `busy` ones do not end.

    `calls` counts the calls of ports; at number `kill_at` the process ends, before the call or after it.
    """

    effect: float = 0.0
    broken: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    kill_at: int = -1
    kill_after: bool = False
    now: float = START
    calls: int = 0
    arms: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, ArmCondition] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    champions: list[int] = field(default_factory=list)
    tags: dict[int, dict[str, str]] = field(default_factory=dict)
    managed: str = ""
    told: list[Synced] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    fault_of: dict[str, Exception] = field(default_factory=dict)
    specs: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    asked: dict[str, Intents] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    remembered: str = ""
    wanted: Wanted = field(default_factory=lambda: Wanted(ONE, ONE))
    policy: dict[str, Any] = field(default_factory=dict)
    fences: int = 0
    entering: Callable[[], None] = lambda: None
    unfenced: Callable[[], None] = lambda: None
    answers: Callable[[Route], Pending | Unsupported | None] = lambda route: None

    def called(self, run: Callable[[], Any]) -> Any:
        """A call of a port, which may be the last thing that this process does."""
        mine, self.calls = self.calls == self.kill_at, self.calls + 1
        if mine and not self.kill_after:
            raise Killed
        result = run()
        if mine:
            raise Killed
        return result

    def state(self, name: str) -> RolloutState:
        """As it was saved last."""
        if name not in self.states:
            raise NotFound(f"no rollout {name}")
        return RolloutState.model_validate_json(self.states[name])

    @property
    def memory(self) -> ServiceMemory:
        """Of the service, as it was saved last."""
        return ServiceMemory.model_validate_json(self.remembered) if self.remembered else ServiceMemory()

    def token(self) -> str:
        """Another one as soon as anything that a snapshot holds is."""
        return repr((self.remembered, self.wanted, self.specs, self.states, self.asked))

    def controller(self, limit: Limit | None = None) -> ServiceController:
        """A new process in this world."""
        ports = Ports(Arms(self), Splitter(self), Evidence(self), Store(self))
        registry: Any = Registry(self)
        follower = RegistrySync(registry, self.told.append, lambda: self.now, run=lambda work: work())
        return ServiceController(ports, follower, self._made, lambda: self.now, limit)

    def _made(self, name: str, asked: Wanted, stable: Revision) -> RolloutSpec:
        return self.make(asked, stable, name)

    def make(self, asked: Wanted, stable: Revision, name: str = "") -> RolloutSpec:
        """A policy of shadow, then half of the units."""
        steps = (Step(shadow=1.0), Step(weight=50))
        values: dict[str, Any] = {"steps": steps, "max_duration": timedelta(days=9), "hold_back": 1} | self.policy
        return RolloutSpec(
            name=name or asked.revision.name,
            service=TOY,
            stable=stable,
            candidate=asked.revision,
            retry=asked.retry,
            seed=len(self.specs) + 7,
            policy=Rollout.model_validate(values),
            kpis=(HITS,),
            independent_outcomes=True,
            created_at=self.now + len(self.specs),
        )

    def visit(self) -> None:
        """A minute goes by, and a rollout that steps closes one more look of the step it is in."""
        self.now += 60.0
        for name in self.states:
            state = self.state(name)
            if state.phase is Phase.STEPPING and state.steps[-1].begun:
                found = self.looks.setdefault(name, [])
                found.append(self._look(len(found) + 1, state.step))

    def _look(self, sequence: int, step: int) -> Look:
        """100 units of the present step; their values differ a little, and the candidate's by its effect."""
        stage, cells = (Stage.SHADOW, Stage.WEIGHTS)[step], tuple(Cell(step, arm) for arm in Arm)
        values = np.linspace(0.8, 1.2, UNITS_A_LOOK)
        rows, seen = np.zeros((UNITS_A_LOOK, 2, 3)), np.zeros((UNITS_A_LOOK, 2), dtype=np.bool_)
        for place, cell in enumerate(cells):
            here = slice(None) if stage is Stage.SHADOW else slice(place, None, 2)
            gain = 1 + self.effect if cell.arm is Arm.CANARY else 1.0
            rows[here, place, 0], rows[here, place, 1], seen[here, place] = values[here] * gain, 1.0, True
        same = sum(1 for one in self.looks_of_stage(stage)) + 1
        return Look(sequence, "hits", same, stage, step, self.now, UNITS_A_LOOK * same, Moments.of(cells, rows, seen))

    def looks_of_stage(self, stage: Stage) -> list[Look]:
        """Of the newest rollout."""
        newest = list(self.states)[-1]
        return [one for one in self.looks.get(newest, []) if one.stage is stage]


@dataclass
class Arms:
    """`Arms`."""

    world: World

    def ensure(self, revision: Revision) -> None:
        def start() -> None:
            self.world.arms.setdefault(revision.name, 0)
            self.world.arms[revision.name] += 1

        self.world.called(start)

    def condition(self, revision: Revision) -> ArmCondition:
        ready = revision.name in self.world.arms and revision.name not in self.world.broken
        readiness = Readiness.READY if ready else Readiness.STARTING
        known = self.world.conditions.get(revision.name)
        since = known.since if known is not None and known.readiness is readiness else self.world.now
        found = self.world.conditions[revision.name] = ArmCondition(readiness=readiness, since=since)
        return found

    def remove(self, revision: Revision) -> Removed:
        def stop() -> Removed:
            route = self.world.routes[-1]
            reached = [route.stable] * (route.weight < 100) + [route.canary] * (route.weight > 0 or route.share > 0)
            assert revision.name not in reached, "traffic to an arm that is stopped"
            if revision.name in self.world.busy:
                return Pending("it answers what it took")
            self.world.arms.pop(revision.name, None)
            return Gone()

        found: Removed = self.world.called(stop)
        return found


@dataclass
class Splitter:
    """`Splitter`; remembers every route that was in force. A new one leads to arms that run, and was written before.

    The world's `answers` say which routes do not come into force.
    """

    world: World

    def apply(self, route: Route) -> Applied:
        def put() -> Applied:
            world = self.world
            if world.routes and world.routes[-1] == route:
                return InForce(world.now)
            if (refused := world.answers(route)) is not None:
                return refused
            assert {route.stable, route.canary} - {""} <= set(world.arms), "traffic to an arm that does not run"
            assert not route.canary or world.state(route.rollout).route == route, "done before it was written"
            world.routes.append(route)
            return InForce(world.now)

        found: Applied = self.world.called(put)
        return found


@dataclass
class Evidence:
    """`EvidenceSource`."""

    world: World

    def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
        found = tuple(self.world.looks.get(spec.name, ()))
        units: tuple[FirstSeen, ...] = ()
        return self.world.called(lambda: RolloutEvidence(found, units, {}, 100 * len(found)))  # type: ignore[no-any-return]


@dataclass
class Store:
    """`ServiceStore`, in JSON as on a disk, and what people and tests do beside it."""

    world: World

    def load(self) -> Snapshot:
        def read() -> Snapshot:
            stored = tuple(Stored(self.spec(name), self.state(name), self.intents(name)) for name in self.names())
            return Snapshot(self.world.token(), self.world.memory, self.world.wanted, stored)

        found: Snapshot = self.world.called(read)
        return found

    def save(self, change: Change, token: str) -> str:
        def put() -> str:
            self._check(token)
            if change.made is not None:
                self._create(change.made)
            if change.state is not None:
                assert change.state.name in self.world.specs
                self.world.states[change.state.name] = change.state.model_dump_json()
            if change.intents is not None:
                self.world.asked[change.intents[0]] = change.intents[1]
            if change.memory is not None:
                self.world.remembered = change.memory.model_dump_json()
            return self.world.token()

        found: str = self.world.called(put)
        return found

    @contextmanager
    def fence(self, token: str) -> Iterator[None]:
        self.world.entering()
        self._check(token)
        self.world.fences += 1
        try:
            yield
        finally:
            self.world.fences -= 1
            self.world.unfenced()

    def _check(self, token: str) -> None:
        if token != self.world.token():
            raise Conflict("the service was changed meanwhile")

    def create(self, spec: RolloutSpec) -> None:
        self.world.called(lambda: self._create(spec))

    def _create(self, spec: RolloutSpec) -> None:
        if spec.name in self.world.specs:
            raise Conflict(f"{spec.name} is taken")
        self.world.specs[spec.name] = spec.model_dump_json()
        self.world.states[spec.name] = RolloutState.first(spec).model_dump_json()

    def names(self) -> list[str]:
        specs = [self.spec(name) for name in self.world.specs]
        return [one.name for one in sorted(specs, key=lambda one: (one.created_at, one.name))]

    def spec(self, name: str) -> RolloutSpec:
        if name not in self.world.specs:
            raise NotFound(name)
        return RolloutSpec.model_validate_json(self.world.specs[name])

    def state(self, name: str) -> RolloutState:
        return self.world.state(name)

    def intents(self, name: str) -> Intents:
        return self.world.asked.get(name, Intents())


@dataclass
class People:
    """`RolloutStore`: the same rollouts as people and other processes see them."""

    world: World

    def create(self, spec: RolloutSpec) -> None:
        Store(self.world).create(spec)

    def names(self) -> list[str]:
        return Store(self.world).names()

    def spec(self, name: str) -> RolloutSpec:
        return Store(self.world).spec(name)

    def state(self, name: str) -> RolloutState:
        return self.world.state(name)

    def save(self, state: RolloutState, over: RolloutState) -> None:
        if self.world.state(state.name) != over:
            raise Conflict(f"{state.name} was changed")
        self.world.states[state.name] = state.model_dump_json()

    def intents(self, name: str) -> Intents:
        return self.world.asked.get(name, Intents())

    def intend(self, name: str, change: Callable[[Intents], Intents]) -> Intents:
        self.spec(name)
        self.world.asked[name] = change(self.intents(name))
        return self.world.asked[name]


@dataclass
class Registry:
    """The calls of `Registry` that a service makes. Versions 1 to 3 are there, but for `world.deleted`; a call whose
    name is in `world.fault_of` raises that."""

    world: World

    def _asked(self, call: str) -> None:
        if call in self.world.fault_of:
            raise self.world.fault_of[call]

    def versions(self, model: str) -> list[ModelVersion]:
        self._asked("versions")
        at = datetime.fromtimestamp(START, UTC)
        return [
            ModelVersion(model, one, "run", f"file:///{one}", at) for one in (3, 2, 1) if one not in self.world.deleted
        ]

    def promote(
        self, model: str, version: int, *, reason: str, by_hand: bool = False, way_back: int | None = None
    ) -> None:
        self._asked("promote")
        assert way_back != version

        def put() -> None:
            assert not by_hand
            assert reason
            if not self.world.champions or self.world.champions[-1] != version:
                self.world.champions.append(version)

        self.world.called(put)

    def tag(self, model: str, version: int, tags: dict[str, str]) -> None:
        self._asked("tag")
        self.world.called(lambda: self.world.tags.setdefault(version, {}).update(tags))

    def manage(self, model: str, owner: str) -> str:
        self._asked("manage")
        self.world.managed = self.world.managed or owner
        return self.world.managed
