"""The section about rollouts: every end is told in a sentence, with what it rests on; and the record it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rollouts_told import HITS, START, ended, frozen, looks, never_ready, promoted, reading, rejected, told

from serinus.core.rollout.record import Counted, Replayed, RolloutRecord, record_of
from serinus.core.rollout.route import Route
from serinus.core.run import RunRecord, StepRecord
from serinus.core.words import Phase, Stage
from serinus.report import render
from serinus.report.rollout_plots import interval, traffic
from serinus.report.rollouts import between, clock, duration, headline, limit, percent

EVERY = (promoted, rejected, frozen, never_ready)


def page(*records: RolloutRecord) -> str:
    facts = {"rollouts": [one.model_dump(mode="json") for one in records]}
    step = StepRecord(name="rollouts", status="ok", started_at=datetime(2026, 1, 1, tzinfo=UTC), seconds=5, facts=facts)
    return render(RunRecord(problem="toy", pipeline_run="r", steps=(step,)))


def section(*records: RolloutRecord) -> str:
    return page(*records).split('<section id="rollouts">')[1].split("</section>")[0]


@pytest.mark.parametrize("make", EVERY)
def test_a_record_survives_json(make: Callable[[], RolloutRecord]) -> None:
    record = make()
    assert RolloutRecord.model_validate_json(record.model_dump_json()) == record


def test_the_summary_has_the_figures_that_machines_compare() -> None:
    found = promoted().summary()
    assert list(found) == [
        "name", "candidate_version", "revision", "outcome", "decided_by", "decided_in", "steps", "kpis",
        "planned_units", "used_units", "replayed",
    ]  # fmt: skip
    assert (found["outcome"], found["decided_by"], found["decided_in"]) == ("promoted", "hits", "weight")
    assert (found["planned_units"], found["used_units"]) == (640, 400)
    assert found["steps"][1] == {
        "kind": "weight", "weight": 50, "units": 300, "requests": 612, "failed": 2, "seconds": 240.0,
    }  # fmt: skip
    assert found["steps"][0]["failed"] == 0
    assert set(found["kpis"][0]) == {"name", "role", "estimate", "low", "high", "boundary"}


@pytest.mark.parametrize(("passes", "flagged"), [(1, False), (7, True)])
def test_distinct_visits_stand_beside_the_units_and_many_passes_are_flagged(passes: int, flagged: bool) -> None:
    record = promoted().model_copy(update={"replayed": Replayed(visits=300, passes=passes)})
    text = section(record)
    played = "in 7 passes" if flagged else "once"
    assert f"It took 400 units (640 planned) of 300 distinct visits, played {played}" in text
    assert ("Repeated: the same visits came up to 7 times" in text) is flagged
    assert record.summary()["replayed"] == {"visits": 300, "passes": passes}


def test_kpis_are_those_of_the_deciding_stage_goals_first() -> None:
    record = promoted()
    assert [one.name for one in record.kpis] == ["hits", "loss", "errors", "top"]
    assert record.kpis[0].estimate == pytest.approx(0.02 / 6)


def test_the_boundary_is_the_one_of_the_end() -> None:
    boundaries = {one.name: one.boundary for one in promoted().kpis}
    assert boundaries == {"hits": -0.1, "loss": None, "errors": None, "top": None}
    boundaries = {one.name: one.boundary for one in rejected().kpis}
    assert boundaries == {"hits": 0.0, "loss": 0.0, "errors": 0.0, "top": None}
    boundaries = {one.name: one.boundary for one in frozen().kpis}
    assert boundaries == {"hits": -0.1, "loss": 0.0, "errors": 0.0, "top": None}


def test_what_nobody_counted_is_not_told_as_none_failed() -> None:
    assert [one.failed for one in rejected().steps] == [None]
    assert [one.failed for one in told(Phase.ABORTED, looks(Stage.SHADOW, 1), Counted(failed={})).steps] == [0]


def test_looks_after_the_end_are_left_out() -> None:
    asked, state, readings = ended(Phase.ROLLED_BACK, looks(Stage.SHADOW, 2))
    late = reading(len(readings) + 1, HITS, 3, Stage.SHADOW)
    assert record_of(asked, state, [*readings, late]).paths == record_of(asked, state, readings).paths


def test_units_add_up_over_the_steps() -> None:
    path = promoted().paths[0]
    assert [one.units for one in path.points] == [50, 100, 150, 200, 250, 300, 350, 400]


def test_traffic_is_told_from_the_start_to_what_the_end_left() -> None:
    route = Route(service="toy", rollout="r", number=3, stable="a", canary="b", weight=99, seed=7, hold_back=1)
    record = told(Phase.PROMOTED, looks(Stage.SHADOW, 1), route=route)
    assert [(one.at - START, one.weight, one.share) for one in record.traffic] == [(0, 0, 0), (0, 0, 1), (400, 99, 0)]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (promoted, "The candidate serves now: hits changed by +0.3 % (−3.3 % to +5.0 %); the whole interval is better "
                   "than the margin of −10 %, and no KPI was found harmed. It took 400 units (640 planned) and "
                   "6 min 40 s."),
        (rejected, "Rejected in shadow, before a user saw it: loss changed by +7.0 % (+1.5 % to +12.0 %), which is "
                   "beyond its harm boundary of 0 %. It took 150 units and 6 min 40 s."),
        (frozen, "Undecided: frozen until the maximum duration. All traffic is with toy-v1-aaaaaa, as before."),
        (never_ready, "Refused before any request reached it: the candidate cannot start: golden rows differ. "),
    ],
)  # fmt: skip
def test_each_end_is_one_sentence(make: Callable[[], RolloutRecord], sentence: str) -> None:
    assert headline(make()) == sentence


@pytest.mark.parametrize(
    ("phase", "readings", "begins"),
    [
        (Phase.QUEUED, [], "Waits for its turn"),
        (Phase.DEPLOYING, [], "The candidate is coming up"),
        (Phase.STEPPING, looks(Stage.SHADOW, 1), "Under way, in step 0 (100 % mirrored)"),
        (Phase.ABORTED, looks(Stage.WEIGHTS, 1), "Aborted"),
        (Phase.SUPERSEDED, [], "Superseded"),
        (Phase.ROLLED_BACK, looks(Stage.WEIGHTS, 1), "Rolled back at 50 % of the traffic"),
        (Phase.PROMOTED, looks(Stage.WEIGHTS, 1), "The candidate serves now"),
    ],
)
def test_what_was_not_decided_by_a_kpi_is_told_too(phase: Phase, readings: list[Any], begins: str) -> None:
    record = told(phase, readings)
    assert headline(record).startswith(begins)
    assert begins in section(record)


def test_one_that_never_began_says_so() -> None:
    asked, state, _ = ended(Phase.SUPERSEDED, [])
    record = record_of(asked, state.changed(started_at=None, reason="rejected: another was under way"), [])
    assert headline(record) == "Superseded: rejected: another was under way. It never began."
    assert "rejected: another was under way" in section(record)


def test_a_run_without_rollouts_has_no_section() -> None:
    assert 'id="rollouts"' not in page()


def test_all_of_a_run_are_shown_in_order() -> None:
    html = page(promoted(), rejected(), frozen(), never_ready())
    assert html.count('<article class="rollout">') == 4
    assert "1 promoted, 2 rolled back, 1 undecided" in html
    assert "predictive, not causal" in html
    assert re.findall(r"<script|(?:src|href)\s*=", html) == []
    assert len(html) < 100_000


def test_a_promotion_shows_what_it_rests_on() -> None:
    html = section(promoted())
    for text in ("not inferior", "examples/faults/odd.py", "toy-v1-aaaaaa", "nothing to compare"):
        assert text in html
    assert html.count("<figure>") == 4  # traffic, hits, and two more folded away; nothing could be said of errors
    assert html.count('svg class="interval"') == 4
    assert "Every request that closed was judged" in html
    assert "Never reached" not in html


def test_a_rejection_says_what_was_not_judged_and_never_reached() -> None:
    html = section(rejected())
    for text in ("3 forced", "Never reached: weight 50 %", "harmed", "loss changed by"):
        assert text in html
    assert "wrong bucket" not in html


def test_a_broken_ratio_is_told() -> None:
    html = section(frozen())
    assert "Frozen: units did not reach the arms in the planned shares (p = 0.0004)" in html
    assert "as far as the sequential test can tell" not in html


def test_a_boundary_that_was_crossed_is_drawn_as_such() -> None:
    by = {one.kpi: one for one in rejected().paths}
    assert 'class="dot bad"' in interval(by["loss"], decided_at=3)
    assert 'class="dot' not in interval(by["loss"])
    good = {one.kpi: one for one in promoted().paths}
    assert 'class="dot good"' in interval(good["hits"], decided_at=6)
    assert interval(good["errors"]) == ""


def test_an_open_end_runs_to_the_edge() -> None:
    readings = [reading(1, HITS, 1, Stage.WEIGHTS), reading(2, HITS, 2, Stage.WEIGHTS, low=None, high=None)]
    drawn = interval(told(Phase.STEPPING, readings).paths[0])
    bars = re.search(r'class="range" d="([^"]+)"', drawn)
    assert bars is not None
    assert bars[1].endswith("184.0V14.0")
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_traffic_without_time_is_not_drawn() -> None:
    assert traffic(told(Phase.QUEUED, [])) == ""
    assert "100 % mirrored" in traffic(promoted())


@pytest.mark.parametrize(
    ("seconds", "said", "shown"),
    [
        (0.2, "0 s", "0:00"),
        (59.6, "1 min", "1:00"),
        (137, "2 min 17 s", "2:17"),
        (3_600, "1 h", "1:00:00"),
        (93_784, "1 d 2 h", "1 d 2:03:04"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str, shown: str) -> None:
    assert duration(seconds) == said
    assert clock(seconds) == shown


def test_figures_have_signs_and_no_negative_zero() -> None:
    assert [percent(one) for one in (0.0196, -0.097, -0.0001, None)] == ["+2.0 %", "−9.7 %", "+0.0 %", "–"]
    assert [limit(one) for one in (0.0, -0.1, 0.5, 0.005, None)] == ["0 %", "−10 %", "+50 %", "+0.5 %", ""]
    assert between(None, 0.1) == "−∞ to +10.0 %"
