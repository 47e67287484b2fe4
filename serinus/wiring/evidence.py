"""The event log of a project's service, and the reduction of it to KPI rows.

Invariant: one folder a service: segments, the predictors' numbers, and the reduction's state.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from serinus.core.card import Problem
from serinus.evidence.compaction import compaction
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import Counters, StateFolder
from serinus.wiring.project import Project
from serinus.wiring.serving import events_folder


def event_log(project: Project, problem: str, writer: str = "reader") -> ParquetEventLog:
    """The embedded event log."""
    return ParquetEventLog(events_folder(project, problem), writer=writer)


def reducer(project: Project, card: Problem) -> KpiReducer:
    """Reduces the log by the card's KPIs, and keeps it to few files."""
    folder = StateFolder(events_folder(project, card.name) / "reduced")
    log = event_log(project, card.name)
    return KpiReducer(log, folder, KpiPlan.of(card), compaction(log))


def reduce_now(project: Project, card: Problem, now: datetime) -> tuple[Counters, dict[float, pa.Table]]:
    """Closes what is due, and gives the KPI rows so far by window (seconds)."""
    found = reducer(project, card)
    counters = found.reduce(now.timestamp())
    return counters, {group.seconds: found.rows(group) for group in KpiPlan.of(card).groups}
