"""One version as two revisions: nothing may be rolled back more often than alpha allows.

Once live, with real predictors, recorded visits and a fixed seed; and two hundred times through the engine on the
recorded visits of the whole test window, without servers. Both need the pipeline of retail: `make test-slow`.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit/rollout"))
from fakes import Arms, Splitter, Store, World
from recorded_visits import RecordedVisits

from serinus.client import bucket_of
from serinus.core.card import Problem
from serinus.core.card.operation import Rollout, Step
from serinus.core.events import exposure_id
from serinus.core.names import ServiceRef
from serinus.core.rollout.route import Route, RouteMode
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.words import Arm, Phase
from serinus.evidence.joins import kpi_schema
from serinus.evidence.kpi_files import GENERATION
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.source import KpiEvidence
from serinus.rollout.engine import Engine, Ports
from serinus.wiring.demo_servers import collecting
from serinus.wiring.project import Project, open_project
from serinus.wiring.replay import ReplayWish
from serinus.wiring.rollout_replay import Watchers, replay_rollouts
from serinus.wiring.rollout_start import want
from serinus.wiring.rollouts import Hosting, hosted
from tests.revisions import revision

pytestmark = [pytest.mark.live, pytest.mark.timeout(1500)]
SEED, VISITS, PASSES = 20111003, 300, 3
SAME = "serinus/wiring/serve.py"
SEEDS = 200
# Visits between ticks: a short shadow, then few and long ones; looks lie on their grid in any case.
BATCHES = (250, 1_250, 1_250, 1_250)
DAY = 86_400.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A home in which retail's pipeline has run."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SERINUS_HOME", str(home))
        command = [sys.executable, "-m", "serinus", "pipeline", "run", "retail", "--register", "chosen"]
        subprocess.run(command, check=True, capture_output=True)
        yield open_project()


def test_a_version_is_not_rolled_back_against_itself(project: Project, tmp_path: Path) -> None:
    with (
        collecting("retail", tmp_path) as collector,
        hosted(project, ServiceRef.parse("retail"), Hosting(event_time=True, new_seed=lambda: SEED)) as host,
    ):
        while host.controller.stable() is None:
            host.controller.tick()
        name = want(project, "retail", "", SAME).rollout
        wish = ReplayWish(ServiceRef.parse("retail"), "aa", VISITS, PASSES, "", collector)
        played = replay_rollouts(project, wish, host, Watchers(), every=50, name=name)
        state = host.rollouts.state(name)
    assert played.failed == 0
    assert state.phase in (Phase.PROMOTED, Phase.STEPPING)
    assert not [one for one in state.crossed if one.boundary == "harm"]
    assert sum(step.units for step in state.steps) > VISITS / 2


def test_of_two_hundred_rollouts_of_equals_few_are_rolled_back(project: Project, retail_card: Problem) -> None:
    visits = RecordedVisits.of_run(next((project.home / "runs").iterdir()))
    alpha = retail_card.operation.rollout.alpha
    ends = [_Replayed(visits, retail_card, seed).end() for seed in range(SEEDS)]
    rolled_back = sum(one is Phase.ROLLED_BACK for one in ends) / SEEDS
    assert rolled_back <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / SEEDS)
    assert sum(one is Phase.PROMOTED for one in ends) > SEEDS / 3  # so the engine did decide


@dataclass
class _Replayed:
    """One rollout of the version against itself: visits come in batches, answered by the route that is in force."""

    visits: RecordedVisits
    card: Problem
    seed: int
    files_so_far: list[pa.Table] = field(default_factory=list)

    def end(self) -> Phase:
        """The phase after at most so many visits, drawn from a start of its own."""
        spec = self._spec()
        world = World()
        plan = KpiPlan(True, "bought", by_unit=False, groups=(Group(DAY, spec.kpis),))
        covariates = self.card.requirements.covariates
        evidence = KpiEvidence(self, plan, covariates, now=lambda: world.now, settle=0.0)  # type: ignore[arg-type]
        ports = Ports(Arms(world), Splitter(world), evidence, Store(world))  # type: ignore[arg-type]
        ports.arms.ensure(spec.stable)
        ports.store.create(spec)
        engine = Engine(ports, lambda: world.now)
        start = int(np.random.default_rng(self.seed).integers(len(self.visits.hits)))
        state = engine.tick(spec.name)
        while state.phase in (Phase.QUEUED, Phase.DEPLOYING):
            state = engine.tick(spec.name)
        for batch in BATCHES:
            taken = (start + np.arange(batch)) % len(self.visits.hits)
            self.files_so_far.append(self._rows(spec, world.routes[-1], taken, world.now))
            start, world.now = start + batch, world.now + batch
            state = engine.tick(spec.name)
            if state.phase.ended:
                break
        return state.phase

    def closed_after(self, generation: int) -> pa.Table:
        """As a reduction gives its rows."""
        found = [_SCHEMA.append(GENERATION).empty_table()]
        for number, table in enumerate(self.files_so_far[generation:], generation + 1):
            found.append(table.append_column(GENERATION, pa.array([number] * len(table), type=GENERATION.type)))
        return pa.concat_tables(found)

    def _spec(self) -> RolloutSpec:
        judged = ("hits_at_10", "log_loss")
        policy = {"steps": (Step(shadow=1.0), Step(weight=50)), "max_duration": timedelta(days=60)}
        return RolloutSpec(
            name="aa",
            service=ServiceRef.parse("retail"),
            stable=revision("retail-v1-aaaaaa", 1),
            candidate=revision("retail-v1-bbbbbb", 1, "same"),
            seed=self.seed,
            policy=Rollout.model_validate(policy),
            kpis=tuple(kpi for kpi in self.card.requirements.kpis if kpi.name in judged),
            independent_outcomes=True,
            created_at=0.0,
        )

    def _rows(self, spec: RolloutSpec, route: Route, taken: Any, begins: float) -> pa.Table:
        """KPI rows of a batch: of both arms where it is mirrored, else of the unit's."""
        found: dict[str, list[Any]] = defaultdict(list)
        for place, visit in enumerate(taken.tolist()):
            unit = f"{self.visits.unit[visit]}#{int(visit < taken[0])}"
            bucket = bucket_of(f"{self.seed}", unit)
            arms = list(Arm) if route.mode is RouteMode.SHADOW else [route.assigned(bucket)]
            for arm in arms:
                revision = (spec.candidate if arm is Arm.CANARY else spec.stable).name
                request, at = f"{visit}-{begins}", begins + 0.5 + place * 0.9
                values: dict[str, Any] = {
                    "id": exposure_id(request, revision), "request_id": request, "revision": revision, "version": "1",
                    "route": "", "forced_arm": "", "entity": unit, "unit": unit, "bucket": bucket, "bucket_check": "ok",
                    "at": at, "as_of": at, "cold_start": False, "latency_ms": 1.0, "error": "",
                    "covariates": [self.visits.covariate[visit]], "window": DAY, "closed_at": at + DAY,
                    "hits_at_10": self.visits.hits[visit], "log_loss": self.visits.log_loss[visit],
                }  # fmt: skip
                for name, value in values.items():
                    found[name].append(value)
        return pa.table({name: found[name] for name in _SCHEMA.names}, schema=_SCHEMA)


_SCHEMA = kpi_schema(("hits_at_10", "log_loss"))
