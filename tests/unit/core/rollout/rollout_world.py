"""Short makers of specs and readings, and a world in which a rollout's actions are done: for tests of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from serinus.core.card.operation import Rollout, Step
from serinus.core.kpi import Kpi
from serinus.core.rollout.actions import Action, EnsureArm, Remember, RemoveArm, SetRoute, blocked, delayed, done
from serinus.core.rollout.evidence import ArmCondition, Evidence, Readiness, SampleRatio
from serinus.core.rollout.machine import step
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.reading import Reading
from serinus.core.words import Arm, Phase, Stage
from tests.revisions import revision

START = 1_700_000_000.0
DAY = 86_400.0
SHADOW = {"shadow": 1.0}
NO_INTENTS = Intents()


def _kpi(name: str, formula: str, role: str, **more: Any) -> Kpi:
    better = "higher" if formula in ("hits_at_k", "revenue") else "lower"
    return Kpi.model_validate(
        {"name": name, "formula": formula, "role": role, "direction": better, "per": "request"} | more
    )


HITS = _kpi("hits", "hits_at_k", "goal", k=10, non_inferiority_margin=0.1)
REVENUE = _kpi("revenue", "revenue", "goal", cap=200, non_inferiority_margin=0.1)
ERRORS = _kpi("errors", "error_rate", "guardrail", harm_margin=0.01)
SLOW = _kpi("slow", "latency_slo", "guardrail", threshold_ms=50, non_inferiority_margin=0.05)
LOSS = _kpi("loss", "log_loss", "guardrail")
LEVEL = _kpi("level", "calibration", "report")
KPIS = {kpi.name: kpi for kpi in (HITS, REVENUE, ERRORS, SLOW, LOSS, LEVEL)}


def spec_of(*steps: dict[str, Any], kpis: Sequence[Kpi] = (HITS, ERRORS), **changes: Any) -> RolloutSpec:
    """A spec with these steps; changes are of the spec or of its policy."""
    policy = {"steps": [Step.model_validate(one) for one in steps], "max_duration": timedelta(days=60)}
    policy |= {name: changes.pop(name) for name in [*changes] if name in Rollout.model_fields}
    return RolloutSpec.model_validate(
        {
            "name": "retail-v2",
            "service": "retail",
            "stable": revision("retail-v1-aaaaaa", 1),
            "candidate": revision("retail-v2-bbbbbb", 2),
            "seed": 7,
            "policy": Rollout.model_validate(policy),
            "kpis": tuple(kpis),
            "created_at": START - 60,
        }
        | changes
    )


def reading(sequence: int, kpi: str = "hits", **changes: Any) -> Reading:
    """A look with enough data that crosses nothing; its look number, units and time follow from its sequence."""
    units = changes.pop("units", 50 * sequence)
    per_arm = {Arm.STABLE: units // 2, Arm.CANARY: units - units // 2}
    return Reading.model_validate(
        {
            "sequence": sequence,
            "kpi": kpi,
            "role": KPIS[kpi].role,
            "direction": KPIS[kpi].direction,
            "look": sequence,
            "stage": Stage.WEIGHTS,
            "step": 0,
            "at": START + 60.0 * sequence,
            "step_units": units,
            "units": per_arm,
            "requests": per_arm,
            "estimate": 0.01 * sequence,
            "low": -0.05,
            "high": 0.07,
            "boundary": -0.02,
            "margin": -0.1,
            "enough": True,
        }
        | changes
    )


READY = ArmCondition(readiness=Readiness.READY, since=START - 30)


def starting(since: float, reason: str = "") -> ArmCondition:
    """An arm that is not ready."""
    return ArmCondition(readiness=Readiness.STARTING, since=since, reason=reason)


class Killed(Exception):
    """The process was killed here."""


@dataclass
class World:
    """What a rollout's actions change, and the tick of D5: decide, persist, act.

    `alive(point)` may raise `Killed` before each effect; what is then left is the stored JSON and the world. While
    `delays`, no route comes into force.
    """

    spec: RolloutSpec
    stored: str = ""
    route: Route | None = None
    arms: set[str] = field(default_factory=set)
    done: list[Action] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    delays: bool = False
    remembered: bool = False
    alive: Callable[[str], None] = lambda point: None

    def __post_init__(self) -> None:
        self.stored = RolloutState.first(self.spec).model_dump_json()

    @property
    def state(self) -> RolloutState:
        """As it was last written."""
        return RolloutState.model_validate_json(self.stored)

    def tick(
        self,
        *readings: Reading,
        now: float = START,
        intents: Intents = NO_INTENTS,
        candidate: ArmCondition = READY,
        **more: Any,
    ) -> RolloutState:
        """One tick, from what is stored."""
        evidence = Evidence(candidate=candidate, readings=readings, **more)
        before = self.state
        state, actions = step(self.spec, before, evidence, intents, now)
        self.alive("decided")
        if state != before:
            self.stored = state.model_dump_json()
        for action in actions:
            self.alive("acting")
            if self.delays and isinstance(action, SetRoute):
                state = delayed(state, action.act, "the gateway is slow")
            elif not blocked(state, action):
                self._do(action)
                state = done(state, action.act, now)
        self.alive("acted")
        self.stored = state.model_dump_json()
        return self.state

    @property
    def champion(self) -> int:
        """The version that serves: what the registry is told. Promoted is only who has all but the hold-back."""
        promoted = self.state.phase is Phase.PROMOTED and self.state.in_force_at is not None
        assert not promoted or (self.route.weight >= 95 and self.spec.candidate.name in self.arms)
        return self.spec.candidate.model.version if promoted else self.spec.stable.model.version

    def _do(self, action: Action) -> None:
        if isinstance(action, Remember):
            self.remembered = True
            return
        self.done.append(action)
        match action:
            case EnsureArm(revision):
                self.arms.add(revision.name)
            case RemoveArm(revision):
                self.arms.discard(revision.name)
            case SetRoute(route):
                if route != self.route:
                    self.routes.append(route)
                self.route = route


def stepping(spec: RolloutSpec) -> World:
    """A world whose rollout has just entered its first step, at START."""
    world = World(spec)
    world.tick(now=START, candidate=starting(START))
    assert world.tick(now=START).phase is Phase.STEPPING
    return world


def ratio(after: int) -> SampleRatio:
    """A sample-ratio test that crossed after that many looks."""
    return SampleRatio(crossed_after=after, at=START + 60.0 * after + 30, p_value=0.0004)
