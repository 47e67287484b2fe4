"""Records of rollouts that ended in each way, with hand-made looks: what the section about rollouts is shown with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from serinus.core.card.operation import Rollout, Step
from serinus.core.kpi import Kpi
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Counted, RolloutRecord, record_of
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import Closed, Condition, Crossing, Entry, RolloutState, StepRecord
from serinus.core.stats.reading import Reading
from serinus.core.words import Arm, Phase, Stage, StepKind, Verdict
from tests.revisions import revision

START = 1_700_000_000.0
HITS = Kpi.model_validate(
    {"name": "hits", "formula": "hits_at_k", "k": 10, "direction": "higher", "role": "goal", "per": "request",
     "non_inferiority_margin": 0.1}
)  # fmt: skip
LOSS = Kpi.model_validate(
    {"name": "loss", "formula": "log_loss", "direction": "lower", "role": "guardrail", "per": "request"}
)
ERRORS = Kpi.model_validate(
    {"name": "errors", "formula": "error_rate", "direction": "lower", "role": "guardrail", "per": "request",
     "harm_margin": 0.01}
)  # fmt: skip
TOP = Kpi.model_validate(
    {"name": "top", "formula": "top_1", "direction": "higher", "role": "report", "per": "request"}
)  # fmt: skip


def spec(name: str = "toy-v2-bbbbbb") -> RolloutSpec:
    """Shadow, then half of the traffic."""
    return RolloutSpec(
        name=name,
        service=ServiceRef.parse("toy"),
        stable=revision("toy-v1-aaaaaa", 1),
        candidate=revision(name, 2, "examples/faults/odd.py@0123"),
        seed=7,
        policy=Rollout(
            steps=(Step(shadow=1.0, min_units=60), Step(weight=50, min_units=60)), max_duration=timedelta(days=60)
        ),
        kpis=(LOSS, HITS, ERRORS, TOP),
        independent_outcomes=True,
        created_at=START - 5,
    )


def reading(sequence: int, kpi: Kpi, look: int, stage: Stage, **changes: Any) -> Reading:
    """A look of 50 more units that has enough data from the second on."""
    margin = kpi.non_inferiority_margin
    return Reading.model_validate(
        {
            "sequence": sequence, "kpi": kpi.name, "role": kpi.role, "direction": kpi.direction, "look": look,
            "stage": stage, "step": 0 if stage is Stage.SHADOW else 1, "at": START + 10.0 * sequence,
            "step_units": 50 * look, "units": {Arm.STABLE: 50 * look, Arm.CANARY: 50 * look},
            "requests": {Arm.STABLE: 51 * look, Arm.CANARY: 51 * look}, "estimate": 0.02 / look, "low": -0.2 / look,
            "high": 0.3 / look, "boundary": 0.0, "margin": None if margin is None else -margin, "enough": look > 1,
        }
        | changes
    )  # fmt: skip


def looks(stage: Stage, count: int, first: int = 1) -> list[Reading]:
    """Of all KPIs in turn; nothing ever happened that the count test could compare."""
    found: list[Reading] = []
    for look in range(1, count + 1):
        for kpi in (ERRORS, HITS, TOP, LOSS):
            nothing = {"estimate": None, "low": None, "high": None, "units": {}} if kpi is ERRORS else {}
            found.append(reading(first + len(found), kpi, look, stage, **nothing))
    return found


def ended(
    phase: Phase, readings: list[Reading], *, by: Kpi | None = None, boundary: Any = "harm", **changes: Any
) -> tuple[RolloutSpec, RolloutState, list[Reading]]:
    """A rollout that took in all readings and then ended, by the last look of a KPI or without one."""
    asked = spec()
    stages = [stage for stage in Stage if any(one.stage is stage for one in readings)]
    steps = tuple(_step(stage, readings) for stage in stages)
    latest = {stage: {one.kpi: one for one in readings if one.stage is stage} for stage in stages}
    log = [Entry(at=START, step=-1, event="step", verdict=Verdict.CONTINUE, reason="the candidate is started")]
    state = RolloutState(
        name=asked.name, phase=phase, step=len(steps) - 1, steps=steps, started_at=START,
        ended_at=START + 400 if phase.ended else None, looks=len(readings), readings=latest,
        decided_in=stages[-1] if stages and phase.ended else None, log=tuple(log),
    )  # fmt: skip
    if by is not None:
        last = latest[stages[-1]][by.name]
        crossing = Crossing(kpi=by.name, stage=last.stage, boundary=boundary, sequence=last.sequence, at=last.at)
        state = state.changed(decided_by=by.name, crossed=(crossing,), reason=f"{by.name} decided")
        log.append(_entry(last, phase, state.reason))
    return asked, state.changed(log=tuple(log), **changes), readings


def told(phase: Phase, readings: list[Reading], counted: Counted | None = None, **how: Any) -> RolloutRecord:
    """The record of `ended`."""
    return record_of(*ended(phase, readings, **how), counted)


def promoted() -> RolloutRecord:
    """In two steps, as planned."""
    counted = Counted(
        failed={("toy-v2-bbbbbb", 1): 2},
        planned={"toy-v2-bbbbbb": 640},
        planned_by_step={("toy-v2-bbbbbb", 0): 100},
    )
    shadow = looks(Stage.SHADOW, 2)
    readings = [*shadow, *looks(Stage.WEIGHTS, 6, first=len(shadow) + 1)]
    return told(Phase.PROMOTED, readings, counted, by=HITS, boundary="non_inferior")


def rejected() -> RolloutRecord:
    """In shadow, by the log loss."""
    readings = looks(Stage.SHADOW, 3)
    readings[-1] = readings[-1].model_copy(update={"estimate": 0.07, "low": 0.015, "high": 0.12, "harm": True})
    return told(Phase.ROLLED_BACK, readings, by=LOSS, unjudged={"forced": 3, "wrong_bucket": 0})


def frozen() -> RolloutRecord:
    """Until its time was over."""
    broken = Condition(name="SampleRatioMatched", holds=False, since=START, reason="p = 0.0004")
    reason = "frozen until the maximum duration"
    return told(Phase.UNDECIDED, looks(Stage.SHADOW, 2), conditions=(broken,), frozen=True, reason=reason)


def never_ready() -> RolloutRecord:
    """No request ever reached it."""
    waits = Condition(name="CandidateReady", holds=False, since=START, reason="golden rows differ")
    return told(Phase.ROLLED_BACK, [], conditions=(waits,), reason="the candidate cannot start: golden rows differ")


def _step(stage: Stage, readings: list[Reading]) -> StepRecord:
    mine = [one for one in readings if one.stage is stage]
    closed = {
        one.kpi: Closed(units=one.step_units, requests=102 * one.look, first_at=mine[0].at, last_at=one.at)
        for one in mine
    }
    kind = StepKind.SHADOW if stage is Stage.SHADOW else StepKind.WEIGHT
    weight, share = (0, 1.0) if stage is Stage.SHADOW else (50, 0.0)
    begun, over = mine[0].at - 10, mine[-1].at
    return StepRecord(kind=kind, weight=weight, share=share, entered_at=begun, left_at=over, closed=closed)


def _entry(last: Reading, phase: Phase, reason: str) -> Entry:
    verdict = Verdict.PROMOTE if phase is Phase.PROMOTED else Verdict.ROLLBACK
    boundary = last.margin if phase is Phase.PROMOTED else last.boundary
    return Entry(
        at=last.at, step=last.step, event="end", verdict=verdict, reason=reason, look=last.look, metric=last.kpi,
        estimate=last.estimate, low=last.low, high=last.high, boundary=boundary, units=last.units,
    )  # fmt: skip
