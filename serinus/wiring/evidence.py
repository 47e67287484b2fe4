"""The event log of a service, and the reduction of it to KPI rows.

Invariant: one folder a service: segments, the predictors' numbers, and the reduction's state.
"""

from __future__ import annotations

import math
from datetime import datetime

import pyarrow as pa

from serinus.core.card import Problem
from serinus.core.names import ServiceRef
from serinus.core.rollout.ports import RolloutStore
from serinus.evidence.compaction import compaction
from serinus.evidence.joins import RETRY_SECONDS
from serinus.evidence.kpi_files import Keep
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import Counters, StateFolder
from serinus.wiring.project import Project
from serinus.wiring.services import events_folder, rollouts


def event_log(project: Project, service: ServiceRef, writer: str = "reader") -> ParquetEventLog:
    """The embedded event log."""
    return ParquetEventLog(events_folder(project, service), writer=writer)


def reducer(project: Project, service: ServiceRef, card: Problem) -> KpiReducer:
    """Reduces the log by the KPIs of the service's card, and keeps it to few files."""
    folder = StateFolder(events_folder(project, service) / "reduced")
    log = event_log(project, service)
    plan = KpiPlan.of(card)
    return KpiReducer(log, folder, plan, compaction(log), _keep(plan, card, rollouts(project, service)))


def _keep(plan: KpiPlan, card: Problem, store: RolloutStore) -> Keep:
    """So long that a rollout as long as any may be finds all its rows closed, and all of them while one lives.

    One that is paused may take longer, and one that is replayed has rows older than itself.
    """
    seconds = plan.longest + card.operation.rollout.max_duration.total_seconds() + RETRY_SECONDS

    def since() -> float:
        lives = any(not store.state(name).phase.ended for name in store.names())
        return -math.inf if lives else math.inf

    return Keep(seconds, since)


def reduce_now(
    project: Project, service: ServiceRef, card: Problem, now: datetime
) -> tuple[Counters, dict[float, pa.Table]]:
    """Closes what is due, and gives the KPI rows so far by window (seconds)."""
    found = reducer(project, service, card)
    counters = found.reduce(now.timestamp())
    return counters, {group.seconds: found.rows(group) for group in KpiPlan.of(card).groups}
