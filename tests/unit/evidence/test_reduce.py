"""KPI rows by hand-worked cases: windows, lateness, duplicates, losses, kills, and looking often."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_log import DAY, START, MemoryLog, exposure, outcome, scores

from serinus.core.card import Kpi, Problem
from serinus.core.errors import Conflict, DataError
from serinus.core.events import Stream
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.state import StateFolder, Written
from serinus.replay.report import kpi_figures

E, S, O = Stream.EXPOSURES, Stream.SCORES, Stream.OUTCOMES  # noqa: E741


class Toy:
    """A log and its reduction by retail's card."""

    def __init__(self, folder: Path, card: Problem) -> None:
        self.log, self.plan = MemoryLog(), KpiPlan.of(card)
        self.folder = StateFolder(folder)
        self.reducer = KpiReducer(self.log, self.folder, self.plan)

    def shown(self, *requests: str, **changes: Any) -> None:
        rows = [exposure(r, **({"sequence": len(self.log.reads) * 100 + i} | changes)) for i, r in enumerate(requests)]
        self.log.append(S, [scores(one.request_id, revision=one.revision) for one in rows if not one.error])
        self.log.append(E, rows)

    def rows(self, window: float = DAY) -> dict[str, dict[str, Any]]:
        group = next(one for one in self.plan.groups if one.seconds == window)
        return {row["id"]: row for row in self.reducer.rows(group).to_pylist()}


@pytest.fixture
def toy(tmp_path: Path, retail_card: Problem) -> Toy:
    return Toy(tmp_path / "reduced", retail_card)


def test_the_plan_groups_the_cards_kpis_by_window(toy: Toy) -> None:
    found = {group.seconds: {kpi.name for kpi in group.kpis} for group in toy.plan.groups}
    assert found[0.0] == {"error_rate", "slow_requests", "cold_starts"}
    assert found[DAY] == {"hits_at_10", "top_1", "conversion", "revenue", "log_loss", "calibration"}
    assert found[30 * DAY] == {"retention"}


def test_a_closed_exposure_has_every_kpi_of_its_window(toy: Toy) -> None:
    toy.shown("r1")
    toy.log.append(
        O, [outcome("o1", "r1", "b", value=150.0), outcome("o2", "r1", "c", value=75.0), outcome("o3", "r1", "x")]
    )
    toy.reducer.reduce(START + DAY)
    (row,) = toy.rows().values()
    assert (row["hits_at_10"], row["top_1"], row["conversion"], row["revenue"]) == (2.0, 0.0, 1.0, 200.0)
    assert row["log_loss"] == pytest.approx(-(math.log(0.4) + math.log(0.3) + math.log(0.1)) / 3)
    assert (row["calibration_predicted"], row["calibration_observed"]) == pytest.approx((1.0, 2.0))
    assert row["retention"] is None
    assert (row["unit"], row["revision"], row["closed_at"], row["window"]) == ("u", "toy-v1", START + DAY, DAY)


def test_the_same_item_twice_is_one_hit_worth_both(toy: Toy) -> None:
    toy.shown("r1")
    toy.log.append(O, [outcome("o1", "r1", "a", value=20.0), outcome("o2", "r1", "a", value=5.0)])
    toy.reducer.reduce(START + DAY)
    (row,) = toy.rows().values()
    assert (row["hits_at_10"], row["top_1"], row["revenue"]) == (1.0, 1.0, 25.0)


def test_nothing_closes_before_its_window(toy: Toy) -> None:
    toy.shown("r1", latency_ms=80.0, cold_start=True)
    counters = toy.reducer.reduce(START + DAY - 1)
    assert toy.rows() == {}
    assert counters.open == 1
    (at_once,) = toy.rows(0.0).values()
    assert (at_once["slow_requests"], at_once["cold_starts"], at_once["error_rate"]) == (1.0, 1.0, 0.0)
    toy.reducer.reduce(START + DAY)
    assert len(toy.rows()) == 1
    assert len(toy.rows(0.0)) == 1


def test_a_failed_request_has_an_error_and_no_hits(toy: Toy) -> None:
    toy.shown("bad", error="BundleError")
    toy.shown("good")
    toy.reducer.reduce(START + DAY)
    assert toy.rows(0.0)["bad@toy-v1"]["error_rate"] == 1.0
    assert toy.rows()["bad@toy-v1"]["hits_at_10"] == 0.0


def test_retention_is_the_units_next_visit_within_the_window(toy: Toy) -> None:
    toy.shown("r1", unit="back")
    toy.shown("r2", unit="gone")
    toy.shown("r3", unit="late")
    visits = [("back", 29.9), ("late", 30.1), ("gone", 0.0), ("gone", -5.0)]
    toy.log.append(O, [outcome(f"v{i}", at=START + d * DAY, unit=u, name="visit") for i, (u, d) in enumerate(visits)])
    toy.reducer.reduce(START + 31 * DAY)
    assert {row["unit"]: row["retention"] for row in toy.rows(30 * DAY).values()} == {"back": 1, "gone": 0, "late": 0}


@pytest.mark.parametrize(("attribution", "hits"), [("request", [0.0, 0.0, 0.0]), ("unit", [1.0, 0.0, 0.0])])
def test_outcomes_without_a_request_are_the_units_where_the_card_says_so(
    tmp_path: Path, retail_card: Problem, attribution: str, hits: list[float]
) -> None:
    """Bought half a day after r1, one and a half days after r2, and by another unit than that of r3."""
    label = retail_card.framing.label.model_copy(update={"attribution": attribution})
    framing = retail_card.framing.model_copy(update={"label": label})
    toy = Toy(tmp_path / "by", retail_card.model_copy(update={"framing": framing}))
    for number, (days, unit) in enumerate([(1.0, "u"), (0.0, "u"), (1.0, "other")], 1):
        toy.shown(f"r{number}", at=START + days * DAY, unit=unit)
    toy.log.append(O, [outcome("o1", "", "a", at=START + 1.5 * DAY)])
    toy.reducer.reduce(START + 3 * DAY)
    assert [toy.rows()[f"r{number}@toy-v1"]["hits_at_10"] for number in (1, 2, 3)] == hits


@pytest.mark.parametrize(("happened", "arrived"), [(DAY + 1, DAY + 1), (100.0, DAY + 1)])
def test_an_outcome_after_closing_is_counted_and_not_used(toy: Toy, happened: float, arrived: float) -> None:
    toy.shown("r1")
    toy.log.append(O, [outcome("o1", "r1", "a", as_of=START + happened, at=START + arrived)])
    counters = toy.reducer.reduce(START + 3 * DAY)
    assert toy.rows()["r1@toy-v1"]["hits_at_10"] == 0.0
    assert counters.late == 1
    assert toy.reducer.reduce(START + 40 * DAY).late == 1


def test_an_outcome_that_comes_in_a_later_run_is_late_too(toy: Toy) -> None:
    toy.shown("r1")
    toy.reducer.reduce(START + 31 * DAY)
    toy.log.append(O, [outcome("o1", "r1", "a", at=START + 31 * DAY)])
    counters = toy.reducer.reduce(START + 32 * DAY)
    assert (counters.late, counters.orphans) == (1, 0)
    assert toy.rows()["r1@toy-v1"]["hits_at_10"] == 0.0


def test_an_outcome_may_come_before_its_exposure_and_without_any_is_an_orphan(toy: Toy) -> None:
    toy.log.append(O, [outcome("o1", "r1", "a"), outcome("o2", "never", "a")])
    toy.reducer.reduce(START + 10)
    toy.shown("r1")
    assert toy.reducer.reduce(START + DAY).orphans == 0
    assert toy.rows()["r1@toy-v1"]["hits_at_10"] == 1.0
    assert toy.reducer.reduce(START + 32 * DAY).orphans == 1
    assert toy.reducer.reduce(START + 33 * DAY).orphans == 1


def test_duplicates_fold_within_a_run_and_over_runs(toy: Toy) -> None:
    toy.shown("r1", "r1")
    toy.log.append(O, [outcome("o1", "r1", "a", value=3.0), outcome("o1", "r1", "a", value=3.0)])
    assert toy.reducer.reduce(START + DAY).duplicates == 2
    toy.shown("r1")
    counters = toy.reducer.reduce(START + 40 * DAY)
    assert (counters.duplicates, counters.exposures) == (3, 1)
    toy.shown("r1")
    assert toy.reducer.reduce(START + 41 * DAY).duplicates == 4
    assert toy.rows()["r1@toy-v1"]["revenue"] == 3.0
    assert len(toy.rows()) == 1


def test_both_arms_of_a_shadow_have_rows_of_their_own(toy: Toy) -> None:
    toy.shown("r1")
    toy.shown("r1", revision="toy-v2")
    toy.log.append(O, [outcome("o1", "r1", "a")])
    toy.reducer.reduce(START + DAY)
    assert {name: row["hits_at_10"] for name, row in toy.rows().items()} == {"r1@toy-v1": 1.0, "r1@toy-v2": 1.0}


def test_gaps_in_a_writers_numbers_are_what_was_lost(toy: Toy) -> None:
    toy.log.append(E, [exposure("a", error="x", sequence=0), exposure("b", error="x", sequence=1)])
    assert toy.reducer.reduce(START).lost == 0
    toy.log.append(E, [exposure("c", error="x", sequence=5), exposure("d", error="x", writer="v", sequence=2)])
    assert toy.reducer.reduce(START).lost == 3 + 2


def test_rows_that_come_twice_or_late_do_not_hide_what_was_lost(toy: Toy) -> None:
    """The log is at-least-once: a batch that was not known to be written is written again, also later."""
    rows = {number: exposure(f"r{number}", error="x", sequence=number) for number in (0, 1, 2, 4, 6)}
    toy.log.append(E, [rows[0], rows[1]])
    assert toy.reducer.reduce(START).lost == 0
    toy.log.append(E, [rows[0], rows[1], rows[6]])
    assert toy.reducer.reduce(START).lost == 4
    toy.log.append(E, [rows[4], rows[2]])
    assert toy.reducer.reduce(START).lost == 2
    toy.log.append(E, [rows[4], rows[6]])
    assert toy.reducer.reduce(START).lost == 2


@given(st.lists(st.lists(st.integers(0, 30), min_size=1), min_size=1, max_size=8))
def test_gaps_are_the_numbers_that_never_came(batches: list[list[int]]) -> None:
    found = Written()
    for batch in batches:
        found = found.with_rows(np.array(batch))
    came = {number for batch in batches for number in batch}
    assert found.next == max(came) + 1
    assert {number for start, end in found.gaps for number in range(start, end)} == set(range(found.next)) - came
    assert found.lost == found.next - len(came)
    assert all(start < end for start, end in found.gaps)


def test_a_segment_is_read_once_also_after_it_was_compacted(toy: Toy) -> None:
    toy.shown("r1")
    toy.reducer.reduce(START)
    toy.shown("r2")
    toy.reducer.reduce(START)
    for stream in (E, S):
        toy.log.compact(stream)
    toy.shown("r3")
    toy.reducer.reduce(START + 40 * DAY)
    assert {name: count for name, count in toy.log.reads.items() if count != 1 and not name.endswith("c")} == {}
    assert all(count == 0 for name, count in toy.log.reads.items() if name.endswith("c"))
    assert len(toy.rows()) == 3


def test_however_often_one_looks_the_rows_are_the_same(tmp_path: Path, retail_card: Problem) -> None:
    """Arrivals in time order; one reduction at the end, or one after each event."""

    def play(folder: Path, every: bool) -> list[dict[str, Any]]:
        toy = Toy(folder, retail_card)
        for day in range(6):
            for number in range(4):
                at = START + day * DAY + number * 1_000
                toy.shown(f"r{day}-{number}", at=at, unit=f"u{number}")
                hit = [outcome(f"o{day}-{number}", f"r{day}-{number}", "abc"[number % 3], at=at + number * DAY / 2)]
                toy.log.append(O, [*hit, outcome(f"v{day}-{number}", unit=f"u{number}", name="visit", at=at)])
                if every:
                    toy.reducer.reduce(at)
        toy.reducer.reduce(START + 50 * DAY)
        rows = [dict(row, closed_at=None) for row in toy.reducer.rows().to_pylist()]
        return sorted(rows, key=lambda row: (row["window"], row["id"]))

    often, once = play(tmp_path / "often", True), play(tmp_path / "once", False)
    assert len(once) == 24 * 3
    assert often == once


def test_a_run_killed_before_its_state_is_saved_leaves_no_trace(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.shown("r1")

    def killed(state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toy.folder, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        toy.reducer.reduce(START + DAY)
    monkeypatch.undo()
    assert toy.rows() == {}
    toy.reducer.reduce(START + DAY)
    assert len(toy.rows()) == 1
    names = {path.name for path in toy.folder.folder.iterdir()}
    assert names == {".lock", "state.json", "kpi-00000001.parquet", "open-00000001.parquet"}


def test_an_empty_log_reduces_to_nothing(toy: Toy) -> None:
    assert toy.reducer.reduce(START).exposures == 0
    assert len(toy.reducer.rows()) == 0


def test_scores_that_come_before_a_run_and_their_exposure_after_it_are_joined(toy: Toy) -> None:
    toy.log.append(S, [scores("r1"), scores("killed")])
    for _ in range(3):
        toy.reducer.reduce(START)
    toy.log.append(E, [exposure("r1")])
    toy.log.append(O, [outcome("o1", "r1", "a")])
    toy.reducer.reduce(START + DAY)
    assert toy.rows()["r1@toy-v1"]["hits_at_10"] == 1.0
    assert set(toy.log.reads.values()) == {1}


def test_scores_that_nobody_asked_for_are_held_up_to_a_bound(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serinus.evidence.joins.MOST_LEFT", 2)
    toy.shown("joined")
    toy.log.append(S, [scores(name) for name in ("r1", "r2", "r3", "joined")])
    toy.reducer.reduce(START)
    toy.log.append(E, [exposure(name, sequence=i) for i, name in enumerate(("r1", "r2", "r3"))])
    toy.reducer.reduce(START + DAY)
    found = {name: row["calibration_predicted"] for name, row in toy.rows().items()}
    assert found == pytest.approx({"joined@toy-v1": 1.0, "r1@toy-v1": 0.0, "r2@toy-v1": 1.0, "r3@toy-v1": 1.0})


def test_the_size_of_chunks_and_parts_changes_nothing(
    retail_card: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (10_000, 2):
        monkeypatch.setattr("serinus.evidence.reduce.CHUNK_ROWS", size)
        monkeypatch.setattr("serinus.evidence.state._PART_ROWS", size)
        toy = Toy(tmp_path / str(size), retail_card)
        for number in range(5):
            toy.shown(f"r{number}", f"s{number}", "r0")
        toy.log.append(O, [outcome(f"o{i}", f"r{i}", item, value=i) for i, item in enumerate("abxca")])
        toy.reducer.reduce(START + DAY)
        toy.reducer.reduce(START + 31 * DAY)
        found.append(toy.reducer.rows().sort_by([("window", "ascending"), ("id", "ascending")]).to_pylist())
        assert toy.folder.load().counters.duplicates == 5
    assert len(found[0]) == 30
    assert found[0] == found[1]


def test_a_second_reduction_waits_for_the_first_but_not_for_ever(tmp_path: Path) -> None:
    with StateFolder(tmp_path).alone():
        with pytest.raises(Conflict, match="another process reduces"), StateFolder(tmp_path, patience=0.0).alone():
            pass
        entered = threading.Event()

        def wait() -> None:
            with StateFolder(tmp_path, patience=60.0).alone():
                entered.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.wait(0.1)
    waiting.join(60.0)
    assert entered.is_set()


def test_a_state_of_another_release_is_told_and_moved_away_it_is_made_anew(tmp_path: Path, toy: Toy) -> None:
    toy.shown("r1", "r2")
    toy.log.append(O, [outcome("o1", "r1", "b", value=150.0)])
    toy.reducer.reduce(START + 3 * DAY)
    rows = toy.rows()
    assert set(rows) == {"r1@toy-v1", "r2@toy-v1"}
    state = tmp_path / "reduced" / "state.json"
    state.write_text(state.read_text(encoding="utf-8").replace('"gaps"', '"rows"'), encoding="utf-8")
    with pytest.raises(DataError, match="another release"):
        toy.reducer.reduce(START + 3 * DAY)
    (tmp_path / "reduced").rename(tmp_path / "old")
    toy.reducer.reduce(START + 3 * DAY)
    assert toy.rows() == rows


def test_a_click_through_rate_is_the_clicks_and_the_impressions_of_the_first_k(
    tmp_path: Path, retail_card: Problem
) -> None:
    ctr = {"name": "ctr", "formula": "ctr", "k": 2, "direction": "higher", "role": "report", "per": "request"}
    needs = retail_card.requirements.model_copy(update={"kpis": (Kpi.model_validate(ctr),)})
    toy = Toy(tmp_path / "clicks", retail_card.model_copy(update={"requirements": needs}))
    toy.shown("r1", "r2")
    toy.shown("bad", error="BundleError")
    toy.log.append(O, [outcome("o1", "r1", "a"), outcome("o2", "r1", "c"), outcome("o3", "r1", "a")])
    toy.reducer.reduce(START + DAY)
    found = {row["request_id"]: (row["ctr_clicks"], row["ctr_shown"]) for row in toy.rows().values()}
    # c was shown third and a clicked twice; a request that failed left a page without a click.
    assert found == {"r1": (1.0, 2.0), "r2": (0.0, 2.0), "bad": (0.0, 2.0)}
    (figure,) = kpi_figures(retail_card.model_copy(update={"requirements": needs}), {DAY: toy.reducer.rows()})
    assert figure.estimate == pytest.approx(1 / 6)
