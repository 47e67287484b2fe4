"""The report KPI of what had to be a default, also over rows that an older reduction left open."""

from __future__ import annotations

from pathlib import Path

from memory_log import START, MemoryLog, exposure

from serinus.core.card import Problem
from serinus.core.events import Stream
from serinus.core.kpi import Kpi
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder

SHARE = Kpi.model_validate(
    {"name": "defaults", "formula": "defaulted_share", "direction": "lower", "role": "report", "per": "request"}
)


def _reducer(folder: Path, card: Problem, log: MemoryLog) -> KpiReducer:
    wanted = card.requirements.model_copy(update={"kpis": (*card.requirements.kpis, SHARE)})
    return KpiReducer(log, StateFolder(folder), KpiPlan.of(card.model_copy(update={"requirements": wanted})))


def test_a_request_with_any_default_counts_once(tmp_path: Path, retail_card: Problem) -> None:
    log = MemoryLog()
    rows = [exposure(f"r{n}", sequence=n, defaulted=n) for n in range(3)]
    log.append(Stream.EXPOSURES, [rows[0]])
    reducer = _reducer(tmp_path / "reduced", retail_card, log)
    reducer.reduce(START - 1)  # too early: they stay open on disk
    log.append(Stream.EXPOSURES, rows[1:])
    reducer.reduce(START)
    shares = {row["request_id"]: row["defaults"] for row in reducer.rows().to_pylist() if row["window"] == 0.0}
    assert shares == {"r0": 0.0, "r1": 1.0, "r2": 1.0}


def test_rows_left_open_before_it_was_kept_are_closed_all_the_same(tmp_path: Path, retail_card: Problem) -> None:
    import pyarrow.parquet as pq

    log = MemoryLog()
    log.append(Stream.EXPOSURES, [exposure("r1", sequence=0, defaulted=1)])
    reducer = _reducer(tmp_path / "reduced", retail_card, log)
    reducer.reduce(START - 1)
    (left,) = (tmp_path / "reduced").glob("open-*.parquet")
    pq.write_table(pq.ParquetFile(left).read().drop_columns(["defaulted"]), left)
    reducer.reduce(START)
    assert [row["defaults"] for row in reducer.rows().to_pylist() if row["window"] == 0.0] == [0.0]
