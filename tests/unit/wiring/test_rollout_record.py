"""Records of a service's rollouts, from its stores to the run's summary."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from serinus.core.card import Problem
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Counted
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.run import RunRecord, StepRecord
from serinus.core.stats.reading import Reading
from serinus.core.words import Phase
from serinus.rollout.local_store import LocalRollouts
from serinus.wiring.rollout_record import rollout_records
from serinus.wiring.summary import summarize
from tests.revisions import revision


def spec(card: Problem, version: int) -> RolloutSpec:
    return RolloutSpec(
        name=f"renewal-v{version}",
        service=ServiceRef.parse("renewal"),
        stable=revision("renewal-v1", 1),
        candidate=revision(f"renewal-v{version}", version),
        seed=7,
        policy=card.operation.rollout,
        kpis=card.requirements.kpis,
        created_at=1e9 + version,
    )


def no_looks(spec: RolloutSpec, state: RolloutState) -> tuple[Reading, ...]:
    assert spec.name == state.name
    return ()


def test_every_rollout_of_a_service_reaches_the_summary(tmp_path: Path, renewal_card: Problem) -> None:
    store = LocalRollouts(tmp_path)
    assert rollout_records(store, no_looks) == ()
    for version in (3, 2):
        store.create(spec(renewal_card, version))
    first = store.state("renewal-v2")
    store.save(first.changed(phase=Phase.ABORTED, started_at=1e9, ended_at=1e9 + 5, reason="aborted"), first)
    records = rollout_records(store, no_looks, Counted(planned={"renewal-v3": 900}))
    assert [(one.name, one.outcome, one.planned_units) for one in records] == [
        ("renewal-v2", Phase.ABORTED, None),
        ("renewal-v3", Phase.QUEUED, 900),
    ]
    facts = {"rollouts": [one.model_dump(mode="json") for one in records]}
    step = StepRecord(name="rollouts", status="ok", started_at=datetime(2026, 1, 1, tzinfo=UTC), seconds=1, facts=facts)
    run = RunRecord(problem="renewal", pipeline_run="r", steps=(step,))
    assert summarize(run, renewal_card)["rollouts"] == [one.summary() for one in records]
