"""`serinus rollout plan`: how much a rollout will take, from what the service has measured so far.

Invariant: a plan reads KPI rows and the card; it changes nothing and decides nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.card import Kpi, Problem
from serinus.core.errors import DataError, UsageError
from serinus.core.names import ServiceRef
from serinus.core.stats.judge import tests_of
from serinus.core.stats.plan import Baseline, Planned, plan
from serinus.core.words import Stage
from serinus.evidence.looks import of_one_arm
from serinus.evidence.matching import column, is_in
from serinus.evidence.plan import KpiPlan
from serinus.wiring.evidence import reducer
from serinus.wiring.project import Project
from serinus.wiring.services import card_of

DAY = 86_400.0


@dataclass(frozen=True)
class RolloutPlan:
    """The plan, the revision whose requests it rests on, and how many those are."""

    rows: tuple[Planned, ...]
    revision: str
    requests: int

    def units(
        self, kpi: str, decision: str = "non_inferior", *, most: bool = False, stage: Stage | None = None
    ) -> int | None:
        """Units over all steps (of a stage) until that decision on a KPI, in half of the runs or in 80 %.

        None when some step never decides it, or there is none.
        """
        found = [one for one in self.rows if one.kpi == kpi and one.decision == decision and stage in (None, one.stage)]
        each = [one.units_p80 if most else one.units_p50 for one in found]
        return None if not each or None in each else round(sum(one for one in each if one is not None))

    def by_step(self, kpi: str, decision: str = "non_inferior") -> dict[int, int]:
        """Units in half of the runs by step, where that is finite."""
        found = [one for one in self.rows if one.kpi == kpi and one.decision == decision]
        return {one.step: round(one.units_p50) for one in found if one.units_p50 is not None}


def expected_units(project: Project, service: ServiceRef) -> dict[Stage, dict[str, int]]:
    """Units that each goal takes in a stage in half of the runs when nothing changes; empty without a measurement."""
    card = card_of(project, service)
    try:
        found = plan_rollout(project, service, {})
    except DataError:
        return {}
    goals = [kpi.name for kpi in card.requirements.kpis if kpi.role == "goal"]
    each = {stage: {name: found.units(name, stage=stage) for name in goals} for stage in Stage}
    return {stage: {name: count for name, count in one.items() if count} for stage, one in each.items()}


def plan_rollout(project: Project, service: ServiceRef, effects: Mapping[str, float]) -> RolloutPlan:
    """`effects`: the assumed true change of KPIs, relative. Raises `DataError` while nothing was measured, and
    `UsageError` for a KPI that the card does not have.
    """
    card = card_of(project, service)
    unknown = sorted(set(effects) - {kpi.name for kpi in card.requirements.kpis})
    if unknown:
        known = ", ".join(kpi.name for kpi in card.requirements.kpis)
        raise UsageError(f"the card has no KPI {', '.join(unknown)}", hint=f"it has: {known}")
    rows = reducer(project, service, card).rows()
    revision = _most_asked(rows, service.shown)
    rows = rows.filter(pa.array(is_in(rows["revision"], pa.array([revision]))))
    found = _baselines(card, rows)
    policy = card.operation.rollout
    tests = tests_of(
        card.requirements.kpis, policy, independent_outcomes=card.framing.outcomes == "independent_of_ranking"
    )
    rng = np.random.default_rng(zlib.crc32(service.shown.encode()))
    return RolloutPlan(plan(tests, policy, found, effects, rng), revision, len(pc.unique(rows["request_id"])))


def _most_asked(rows: pa.Table, service: str) -> str:
    if not len(rows):
        raise DataError(
            f"{service} has not answered anything yet, so there is nothing to plan from",
            hint=f"`serinus serve {service}` and `serinus replay {service}` give a first measurement",
        )
    counted = pc.value_counts(rows["revision"]).to_pylist()
    return str(max(counted, key=lambda one: (one["counts"], one["values"]))["values"])


def _baselines(card: Problem, rows: pa.Table) -> dict[str, Baseline]:
    """Of every KPI that has a mean and a variance."""
    found = {}
    for group in KpiPlan.of(card).groups:
        mine = rows.filter(pc.equal(rows["window"], group.seconds))
        for kpi in group.kpis:
            baseline = _baseline(kpi, mine, card.requirements.covariates)
            if baseline is not None:
                found[kpi.name] = baseline
    return found


def _baseline(kpi: Kpi, rows: pa.Table, covariates: tuple[str, ...]) -> Baseline | None:
    if not len(rows):
        return None
    as_of = column(rows, "as_of")
    days = max((float(as_of.max()) - float(as_of.min())) / DAY, 1.0)
    try:
        return Baseline.of(of_one_arm(kpi, rows, covariates), days=days)
    except DataError:
        return None  # no errors yet, for example: there is no rate to plan with
