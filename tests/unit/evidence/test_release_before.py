"""The log of the release before, 0.1.0: read as if this one had written it. `release_0_1/` was made by commit d12d922.

Its exposures have `arm` where there is `forced_arm` now, no route, and a service without its namespace.
"""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from memory_log import DAY, START, exposure, outcome, scores

from serinus.core.card import Problem
from serinus.core.events import Stream
from serinus.evidence.divisions import divided
from serinus.evidence.entries import decoded
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.rows import table_of
from serinus.evidence.state import StateFolder

BEFORE = Path(__file__).with_name("release_0_1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(BEFORE / "log", tmp_path / "log"))


def _read(log: ParquetEventLog, stream: Stream, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for one in log.segments(stream) for row in log.read(one, columns).to_pylist()]


def _reducer(folder: Path, card: Problem) -> KpiReducer:
    return KpiReducer(ParquetEventLog(folder), StateFolder(folder / "reduced"), KpiPlan.of(card))


def test_exposures_have_the_names_and_the_service_of_this_release(folder: Path) -> None:
    rows = {row["request_id"]: row for row in _read(ParquetEventLog(folder), Stream.EXPOSURES)}
    assert {(row["service"], row["route"]) for row in rows.values()} == {("default/retail", "")}
    assert {name: row["forced_arm"] for name, row in rows.items()} == {
        "r0": "", "r1": "canary", "r2": "", "r3": "", "r4": "",
    }  # fmt: skip


def test_a_column_that_had_another_name_can_be_read_alone(folder: Path) -> None:
    found = _read(ParquetEventLog(folder), Stream.EXPOSURES, ["forced_arm", "route", "id"])
    assert found[1] == {"forced_arm": "canary", "route": "", "id": "r1@toy-v1"}


def test_the_streams_that_there_were_not_are_empty(folder: Path) -> None:
    log = ParquetEventLog(folder)
    assert not log.segments(Stream.INPUTS)
    assert not log.segments(Stream.DECISIONS)


def test_a_reduction_goes_on_from_where_it_was_left_with_the_same_figures(folder: Path, retail_card: Problem) -> None:
    told = json.loads((BEFORE / "kpis.json").read_text())
    reducer = _reducer(folder, retail_card)
    assert reducer.reduce(START + 40 * DAY).model_dump() == told["counters"]
    expected = [{"forced_arm" if name == "arm" else name: one for name, one in row.items()} for row in told["rows"]]
    assert [{name: row[name] for name in expected[0]} for row in reducer.rows().to_pylist()] == expected
    assert {row["route"] for row in reducer.rows().to_pylist()} == {""}


def test_a_reduction_begun_anew_has_the_same_values(folder: Path, retail_card: Problem) -> None:
    shutil.rmtree(folder / "reduced")
    told = {(row["id"], row["window"]): row for row in json.loads((BEFORE / "kpis.json").read_text())["rows"]}
    reducer = _reducer(folder, retail_card)
    reducer.reduce(START + 40 * DAY)
    found = {(row["id"], row["window"]): row for row in reducer.rows().to_pylist()}
    assert set(found) == set(told)
    kpis = KpiPlan.of(retail_card).columns()
    assert [[found[key][name] for name in kpis] for key in told] == [[told[key][name] for name in kpis] for key in told]


def test_kpi_rows_of_both_releases_are_divided_alike(folder: Path, retail_card: Problem) -> None:
    reducer = _reducer(folder, retail_card)
    ParquetEventLog(folder).append(Stream.EXPOSURES, [exposure("r5", sequence=5, forced_arm="stable")])
    reducer.reduce(START + 40 * DAY)
    rows = reducer.rows(KpiPlan.of(retail_card).groups[0])
    assert {one.role: len(part) for one, part in divided(rows, [])} == {"primary": 4, "forced": 2}


def test_segments_of_both_releases_are_merged(folder: Path) -> None:
    log = ParquetEventLog(folder)
    log.append(Stream.EXPOSURES, [exposure("r5", sequence=5, forced_arm="stable", route="toy-v2.1")])
    before = _read(log, Stream.EXPOSURES)
    log.compact(Stream.EXPOSURES, log.segments(Stream.EXPOSURES))
    assert len(log.segments(Stream.EXPOSURES)) == 1
    assert _read(log, Stream.EXPOSURES) == before


def test_entries_of_redis_are_those_rows() -> None:
    stored = json.loads((BEFORE / "entries.json").read_text())
    new = {"service": "default/retail"}
    expected = {
        Stream.EXPOSURES: [exposure("r9", sequence=9, forced_arm="stable", **new), exposure("r8", sequence=8, **new)],
        Stream.SCORES: [scores("r9")],
        Stream.OUTCOMES: [outcome("o9", "r9", "a")],
    }
    for stream, rows in expected.items():
        entry = {name.encode(): b64decode(value) for name, value in stored[stream.value].items()}
        assert decoded(stream, entry).equals(table_of(stream, rows)), stream
