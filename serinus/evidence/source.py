"""The evidence of a rollout, read from a service's KPI rows.

Invariant: rows are taken in order of closing: by the reduction that closed them, then by the time their window ended.
What a reduction has written never changes, and a row waits until no change of the route can come near it any more, with
all that closed after it; so looks that were read once are read the same again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from serinus.core.rollout.ports import RolloutEvidence
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase, Stage, StepKind
from serinus.evidence.increments import Increment, Increments, KpiRows, Question
from serinus.evidence.plan import KpiPlan
from serinus.evidence.rollout_rows import Routed, Span


class KpiEvidence:
    """`EvidenceSource` on one service's KPI rows; takes each row once.

    `settle`: seconds around a change of the route in which requests are not judged; 0 where none is under way then.
    `now`: the clock (epoch s) of whoever changes the route.
    """

    def __init__(
        self,
        rows: KpiRows,
        plan: KpiPlan,
        covariates: Sequence[str],
        *,
        now: Callable[[], float],
        settle: float = 2.0,
    ) -> None:
        self._increments, self._settle = Increments(rows, plan, covariates, now), settle

    def read(self, spec: RolloutSpec, state: RolloutState) -> RolloutEvidence:
        """See `EvidenceSource`."""
        found = self._increments.fold(self.ask(spec, state), after=0)
        return RolloutEvidence(tuple(found.looks), tuple(found.units), found.unjudged, found.closed)

    def ask(self, spec: RolloutSpec, state: RolloutState) -> Question:
        """What is to be read for a rollout as it stands."""
        return Question(
            Routed(spec.stable.name, spec.candidate.name, spec.seed, spans(state), self._settle, gaps(state)),
            tuple(spec.kpis),
        )

    def increment(self, question: Question, after: int) -> Increment:
        """What follows look `after`, which acknowledges those up to it."""
        return self._increments.read(question, after)


def spans(state: RolloutState) -> tuple[Span, ...]:
    """The steps whose route came into force, from then on, and the hold-back after a promotion."""
    found, weighted = [], False
    for number, one in enumerate(state.steps):
        weighted |= one.kind is StepKind.WEIGHT
        stage = Stage.WEIGHTS if weighted else Stage.SHADOW
        if one.in_force_at is not None:
            ends = math.inf if one.left_at is None else one.left_at
            found.append(Span(number, stage, one.weight, one.in_force_at, ends))
    if state.phase is Phase.PROMOTED and state.in_force_at is not None and state.route is not None:
        found.append(Span(len(state.steps), Stage.WEIGHTS, state.route.weight, state.in_force_at))
    return tuple(found)


def gaps(state: RolloutState) -> tuple[tuple[float, float], ...]:
    """From each decision to the time its route was in force (epoch s): nobody knows who was sent where."""
    found = []
    for one in state.steps:
        over = one.in_force_at if one.in_force_at is not None else one.left_at
        found.append((one.entered_at, math.inf if over is None else over))
    if state.phase is Phase.PROMOTED and state.ended_at is not None:
        found.append((state.ended_at, math.inf if state.in_force_at is None else state.in_force_at))
    return tuple(found)
