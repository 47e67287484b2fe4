"""Looks of a rollout against pandas, row by row; which rows are judged; and that no batching changes anything."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_rows import (
    BEGIN,
    COVARIATES,
    DAY,
    ERRORS,
    HITS,
    HOURS,
    KPIS,
    LATER,
    LOSS,
    NEW,
    OLD,
    ONCE,
    Expected,
    arm_of,
    evidence,
    expected_looks,
    judged_frame,
    mirrored,
    row,
    spec_of,
    state_at,
    visits,
)
from memory_log import MemoryLog, exposure, outcome, scores
from same_looks import same_looks

from serinus.core.card import Kpi
from serinus.core.events import Exposure, Stream
from serinus.core.rollout.evidence import ArmCondition, Evidence, Readiness
from serinus.core.rollout.machine import step
from serinus.core.rollout.ports import RolloutEvidence
from serinus.core.rollout.spec import Intents
from serinus.core.stats.judge import Judge
from serinus.core.stats.judge import tests_of as made_tests
from serinus.core.stats.moments import WIDTH, Cell, Moments
from serinus.core.stats.reading import Counts, Look, Reading
from serinus.core.words import Arm, Phase, Stage
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.source import KpiEvidence
from serinus.evidence.state import StateFolder
from serinus.rollout.engine import sample_ratio

LAST = state_at(2)


def read(rows: list[dict[str, Any]], *moments: float, kpis: tuple[Kpi, ...] = KPIS, **options: Any) -> RolloutEvidence:
    return evidence(rows, *moments, **options).read(spec_of(kpis), LAST)


def of_kpi(looks: tuple[Look, ...], name: str, stage: Stage) -> list[Look]:
    return [one for one in looks if (one.kpi, one.stage) == (name, stage)]


class TestMoments:
    @pytest.mark.parametrize("stage", Stage)
    @pytest.mark.parametrize("kpi", [one for one in KPIS if one is not ERRORS], ids=lambda one: one.name)
    def test_increments_add_up_to_what_pandas_counts(self, kpi: Kpi, stage: Stage) -> None:
        rows = visits(11, 330, faults=True)
        mine = of_kpi(read(rows).looks, kpi.name, stage)
        expected = expected_looks(judged_frame(rows, kpi, stage), kpi)
        assert [one.number for one in mine] == list(range(1, len(expected) + 1))
        assert len(mine) >= (3 if stage is Stage.WEIGHTS else 1)
        total: Moments | None = None
        for look, wanted in zip(mine, expected, strict=True):
            assert isinstance(look.increment, Moments)
            total = look.increment if total is None else total + look.increment
            assert (look.step, look.step_units, look.at) == (wanted.step, wanted.step_units, wanted.at)
            _same(total, wanted)

    def test_a_unit_that_returns_in_another_step_stays_one(self) -> None:
        """Its vectors meet in one cross moment, also when both come in different looks."""
        unit = next(one for one in (f"u{i}" for i in range(99)) if arm_of(one, 25) == NEW)
        others = [f"v{i}" for i in range(39)]
        early = [row(f"a{u}", u, arm_of(u, 25), BEGIN + HOURS + 10, hits=1.0) for u in [unit, *others[:19]]]
        late = [row(f"b{u}", u, arm_of(u, 50), BEGIN + 2 * HOURS + 10, hits=2.0) for u in [unit, *others[19:], "w"]]
        first, second = of_kpi(read(early + late).looks, "hits", Stage.WEIGHTS)
        assert isinstance(first.increment, Moments)
        assert isinstance(second.increment, Moments)
        total = first.increment + second.increment
        here, there = (total.cells.index(Cell(number, Arm.CANARY)) * WIDTH for number in (1, 2))
        assert total.cross[here, there] == 1.0 * 2.0
        assert second.increment.cross[here, there] == 2.0
        assert total.distinct == 39
        assert total.units.sum() == 40

    def test_a_failed_request_has_no_log_loss_and_counts_for_the_rest(self) -> None:
        rows = [
            row(f"r{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i, error="BundleError", loss=float("nan"))
            for i in range(60)
        ]
        looks = read(rows).looks
        for name, base in (("loss", 0.0), ("hits", 60.0)):
            increments = [one.increment for one in of_kpi(looks, name, Stage.WEIGHTS)]
            assert sum(one.sums[:, 1].sum() for one in increments if isinstance(one, Moments)) == base

    def test_looks_close_goals_first_then_in_the_cards_order(self) -> None:
        """Ties of one row: the reason for an end must not depend on chance."""
        report = ONCE.model_copy(update={"look_every": 20})
        rows = [row(f"r{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i) for i in range(60)]
        looks = read(rows, kpis=(report, HITS)).looks
        assert [(one.sequence, one.kpi) for one in looks[:4]] == [(1, "hits"), (2, "once"), (3, "hits"), (4, "once")]


def _same(total: Moments, wanted: Expected) -> None:
    assert total.distinct == wanted.distinct
    for place, cell in enumerate(total.cells):
        key = (cell.step, cell.arm)
        assert total.units[place] == wanted.units.get(key, 0)
        assert total.positive[place] == wanted.positive.get(key, 0)
        np.testing.assert_allclose(total.sums[place], wanted.cells.get(key, np.zeros(3)), rtol=1e-9, atol=1e-9)
        for other, cell2 in enumerate(total.cells):
            block = total.cross[place * WIDTH : (place + 1) * WIDTH, other * WIDTH : (other + 1) * WIDTH]
            known = wanted.cross.get((*key, cell2.step, cell2.arm), np.zeros((3, 3)))
            np.testing.assert_allclose(block, known, rtol=1e-9, atol=1e-9)
    assert {(one.step, one.arm) for one in total.cells} >= set(wanted.units)


class TestGrid:
    def test_looks_lie_on_closed_units(self) -> None:
        rows = visits(5, 300)
        every = {kpi.name: kpi.look_every for kpi in KPIS}
        for stage in Stage:
            for kpi in KPIS:
                units = judged_frame(rows, kpi, stage).groupby("step")["unit"].nunique()
                looks = of_kpi(read(rows).looks, kpi.name, stage)
                assert kpi is ERRORS or len(looks) == (units // every[kpi.name]).sum()

    def test_sequences_have_no_gap_and_numbers_count_a_kpi(self) -> None:
        looks = read(visits(5, 300)).looks
        assert [one.sequence for one in looks] == list(range(1, len(looks) + 1))
        for name in [one.name for one in KPIS]:
            for stage in Stage:
                mine = of_kpi(looks, name, stage)
                assert [one.number for one in mine] == list(range(1, len(mine) + 1))

    def test_a_look_says_when_its_step_was_judged_first(self) -> None:
        rows = visits(5, 300)
        for kpi in KPIS:
            for stage in Stage:
                judged = judged_frame(rows, kpi, stage)
                for look in of_kpi(read(rows).looks, kpi.name, stage):
                    assert look.step_from == judged[judged["step"] == look.step]["at"].min()

    def test_below_the_first_grid_point_there_is_no_look(self) -> None:
        rows = [row(f"r{i}", f"u{i % 9}", arm_of(f"u{i % 9}", 25), BEGIN + HOURS + 9 + i) for i in range(99)]
        found = read(rows)
        assert [one.kpi for one in found.looks] == ["once"]  # it looks at every seventh unit
        assert found.closed == 99

    def test_without_rows_there_is_nothing(self) -> None:
        assert read([]) == RolloutEvidence((), (), {}, 0)


class TestUnits:
    def test_a_kpi_by_unit_takes_the_first_request(self) -> None:
        units = [f"u{i}" for i in range(7)]
        first = [row(f"a{u}", u, arm_of(u, 25), BEGIN + HOURS + 10, once=1.0) for u in units]
        later = [row(f"b{u}", u, arm_of(u, 25), BEGIN + HOURS + 99, once=0.0) for u in units]
        (look,) = of_kpi(read(later + first).looks, "once", Stage.WEIGHTS)
        assert isinstance(look.increment, Moments)
        assert look.increment.sums[:, :2].sum(axis=0).tolist() == [7.0, 7.0]

    def test_an_unjudged_first_request_is_not_the_units_observation(self) -> None:
        units = [f"u{i}" for i in range(7)]
        first = [row(f"a{u}", u, arm_of(u, 25), BEGIN + HOURS + 9, once=1.0, bucket_check="forced") for u in units]
        later = [row(f"b{u}", u, arm_of(u, 25), BEGIN + HOURS + 99, once=0.0) for u in units]
        (look,) = of_kpi(read(first + later).looks, "once", Stage.WEIGHTS)
        assert isinstance(look.increment, Moments)
        assert look.increment.sums[:, 0].sum() == 0.0


class TestJudged:
    def test_only_a_right_bucket_is_ever_judged(self) -> None:
        rows = [row(f"r{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i) for i in range(80)]
        for place, check in enumerate(["wrong", "missing", "forced", "forced"]):
            rows[place] |= {"bucket_check": check, "errors": 1.0, "hits": 9.0}
        found = read(rows)
        assert found.unjudged == {"wrong": 1, "missing": 1, "forced": 2}
        assert found.closed == 80
        assert _requests(found.looks) == 70  # eighty less four, in looks of ten units
        assert _incidents(found.looks) == {Arm.STABLE: 0, Arm.CANARY: 0}
        assert {one.at for one in found.units} == {one["at"] for one in rows[4:]}

    def test_an_answer_of_the_other_arm_is_counted_and_not_judged(self) -> None:
        """The unit still shows up where it landed, for the check of the arms' shares."""
        rows = [row(f"r{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i) for i in range(40)]
        lost = [one for one in rows if one["revision"] == NEW]
        for one in lost:
            one["revision"] = OLD
        assert len(lost) >= 5
        found = read(rows)
        assert found.unjudged == {"other arm": len(lost)}
        assert Counter(one.cell.arm for one in found.units) == {Arm.STABLE: 40}

    @pytest.mark.parametrize(
        ("away", "judged"), [(-2.0, True), (-1.9, False), (0.0, False), (1.9, False), (2.0, True), (60.0, True)]
    )
    def test_rows_near_a_change_of_the_route_are_left_out(self, away: float, judged: bool) -> None:
        """Of each change: into the first step, from shadow to weights, to more weight."""
        for number in range(1, 3):
            unit = next(u for u in (f"u{i}" for i in range(999)) if len({arm_of(u, w) for w in (25, 50)}) == 1)
            one = row("r", unit, arm_of(unit, 25), BEGIN + number * HOURS + away)
            found = read([one])
            assert found.unjudged == ({} if judged else {"route change": 1})

    def test_without_anything_under_way_every_row_counts(self) -> None:
        one = row("r", "u1", arm_of("u1", 25), BEGIN + HOURS)
        assert read([one], settle=0.0).unjudged == {}

    def test_rows_before_the_rollout_and_of_other_revisions_are_not_its_own(self) -> None:
        rows = [row("a", "u1", OLD, BEGIN - 10), row("b", "u1", "toy-v9-cccccc", BEGIN + HOURS + 10)]
        assert read(rows) == RolloutEvidence((), (), {}, 0)


class TestShadow:
    def test_only_requests_that_both_arms_answered_are_judged(self) -> None:
        rows: list[dict[str, Any]] = []
        for number in range(30):
            rows.append(row(f"r{number}", f"u{number}", OLD, BEGIN + 10 + number, hits=1.0))
            if mirrored(f"u{number}"):
                rows.append(row(f"r{number}", f"u{number}", NEW, BEGIN + 10.4 + number, hits=2.0))
        copies = sum(mirrored(f"u{number}") for number in range(30))
        every = HITS.model_copy(update={"look_every": 1})
        looks = of_kpi(read(rows, kpis=(every,)).looks, "hits", Stage.SHADOW)
        assert 10 < copies < 20
        assert len(looks) == copies
        total = sum((one.increment for one in looks[1:]), looks[0].increment)  # type: ignore[operator]
        assert isinstance(total, Moments)
        assert (total.distinct, total.units.tolist()) == (copies, [copies, copies])
        canary, stable = (total.cells.index(Cell(0, arm)) * WIDTH for arm in (Arm.CANARY, Arm.STABLE))
        assert total.cross[canary, stable] == 2.0 * copies  # the two answers of a request are one unit's

    def test_a_pair_counts_when_its_later_answer_closes(self) -> None:
        """A copy that comes much later than its original does not reorder what was read before."""
        rows = [row(f"r{i}", f"u{i}", arm, BEGIN + 10 + i) for i in range(3) for arm in (OLD, NEW)]
        rows[1] |= {"at": BEGIN + 100, "as_of": BEGIN + 100}
        every = HITS.model_copy(update={"look_every": 1})
        looks = of_kpi(read(rows, kpis=(every,)).looks, "hits", Stage.SHADOW)
        assert [one.at for one in looks] == [BEGIN + 11, BEGIN + 12, BEGIN + 100]

    def test_a_shadow_has_no_units_to_check_the_shares_by(self) -> None:
        rows = [row(f"r{i}", f"u{i}", arm, BEGIN + 10 + i) for i in range(30) for arm in (OLD, NEW)]
        assert read(rows).units == ()


class TestIncidents:
    def _burst(self, arm: str, count: int, start: float, spacing: float) -> list[dict[str, Any]]:
        units = [u for u in (f"u{i}" for i in range(4000)) if arm_of(u, 25) == arm][:count]
        return [row(f"{arm}{i}", u, arm, start + i * spacing, errors=1.0) for i, u in enumerate(units)]

    def test_a_burst_is_one_incident(self) -> None:
        """Thirty bad requests within ten seconds of one arm; a second burst a minute later is another."""
        start = (BEGIN + HOURS + 100) // 10 * 10
        rows = self._burst(NEW, 30, start, 0.2) + self._burst(OLD, 30, start, 0.2)
        again = [one | {"id": f"z{one['id']}", "request_id": f"z{one['request_id']}"} for one in rows[:30]]
        again = [one | {"at": one["at"] + 60, "as_of": one["as_of"] + 60} for one in again]
        looks = read(rows + again).looks
        assert _incidents(looks) == {Arm.STABLE: 1, Arm.CANARY: 1}
        assert _requests(looks) == 60
        assert _incidents(read(rows + again, kpis=(ERRORS.model_copy(update={"look_every": 1}),)).looks) == {
            Arm.STABLE: 1,
            Arm.CANARY: 2,
        }

    def test_bad_requests_that_are_apart_are_incidents_each(self) -> None:
        rows = self._burst(NEW, 20, BEGIN + HOURS + 100, 10.0)
        assert _incidents(read(rows).looks) == {Arm.STABLE: 0, Arm.CANARY: 20}

    def test_counts_are_by_step_and_arm(self) -> None:
        rows = visits(3, 400)
        total: Counter[tuple[int, Arm]] = Counter()
        for look in of_kpi(read(rows).looks, "errors", Stage.WEIGHTS):
            assert not isinstance(look.increment, Moments)
            for counts in look.increment:
                for arm, number in counts.requests.items():
                    total[counts.step, arm] += number
        frame = judged_frame(rows, ERRORS, Stage.WEIGHTS)
        counted = frame.head(sum(total.values()))
        assert total == Counter(zip(counted["step"], counted["arm"], strict=True))
        assert len(frame) - len(counted) < 30
        assert len(total) == 4


def _requests(looks: tuple[Look, ...]) -> int:
    return sum(sum(one.requests.values()) for look in looks for one in _counts(look))


def _incidents(looks: tuple[Look, ...]) -> dict[Arm, int]:
    return {arm: sum(one.incidents[arm] for look in looks for one in _counts(look)) for arm in Arm}


def _counts(look: Look) -> tuple[Counts, ...]:
    return () if isinstance(look.increment, Moments) else look.increment


# --- batches: the same rows, reduced and read at other moments


GOOD = visits(21, 420, level=8.0, faults=True)
WORSE = visits(21, 420, level=8.0, effect=-0.7, faults=True)


@cache
def whole() -> RolloutEvidence:
    """All at once."""
    return read(GOOD)


EARLY = HITS.model_copy(update={"burn_in_units": 10})
TICKED = BEGIN + 3 * DAY


@given(st.lists(st.floats(-0.2, 1.6), max_size=12))
@settings(max_examples=12)
def test_reductions_in_any_batches_give_equal_looks(days: list[float]) -> None:
    """Whatever was closed by which run; a day of window lies between the answer and the rest of its KPIs."""
    moments = sorted({BEGIN + one * DAY for one in days} | {LATER})
    found = read(GOOD, *moments)
    same_looks(found.looks, whole().looks)
    assert (found.units, found.unjudged, found.closed) == (whole().units, whole().unjudged, whole().closed)


@given(st.lists(st.floats(0.0, 1.6), max_size=6))
@settings(max_examples=8)
def test_what_was_read_once_is_read_the_same_again(days: list[float]) -> None:
    """What is known at a moment begins what is known later."""
    moments = sorted(BEGIN + one * DAY for one in days)
    for place in range(1, len(moments) + 1):
        found = read(GOOD, *moments[:place])
        same_looks(found.looks, whole().looks[: len(found.looks)])
        assert found.units == whole().units[: len(found.units)]


@given(st.lists(st.floats(0.0, 1.6), max_size=6))
@settings(max_examples=6)
def test_ticks_in_any_batches_come_to_the_same_end(days: list[float]) -> None:
    """Judge and machine over what each moment knows: of a candidate that is promoted, and of one that is not."""
    moments = sorted({BEGIN + one * DAY for one in days} | {LATER})
    assert _ended(GOOD, moments) == ends()[Phase.PROMOTED]
    assert _ended(WORSE, moments) == ends()[Phase.ROLLED_BACK]


def test_these_ends_are_decisions() -> None:
    """Else the test above would compare nothing."""
    for phase, end in ends().items():
        assert end["phase"] is phase
        assert len(end["log"]) >= 3


def _ended(rows: list[dict[str, Any]], moments: list[float]) -> dict[str, Any]:
    """Of a rollout that stands in its last step from the start, so that no tick moves any traffic."""
    spec = spec_of((EARLY, LOSS, ERRORS))
    judge = Judge(made_tests(spec.kpis, spec.policy, independent_outcomes=True))
    state, readings = LAST, list[Reading]()
    for place in range(1, len(moments) + 1):
        found = evidence(rows, *moments[:place]).read(spec, LAST)
        readings += [judge.read(look) for look in found.looks[len(readings) :]]
        now = Evidence(
            candidate=ArmCondition(readiness=Readiness.READY, since=BEGIN),
            readings=tuple(one for one in readings if one.sequence > state.looks),
            ratio=sample_ratio(LAST, found),
        )
        state, _ = step(spec, state, now, Intents(), TICKED)
        if state.phase.ended:
            break
    return _rounded(state.model_dump(exclude={"written", "acted", "unjudged"}))  # type: ignore[no-any-return]


def _rounded(value: Any) -> Any:
    """Sums of floats differ in their last bits."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


@cache
def ends() -> dict[Phase, dict[str, Any]]:
    """In one tick."""
    return {Phase.PROMOTED: _ended(GOOD, [LATER]), Phase.ROLLED_BACK: _ended(WORSE, [LATER])}


# --- the clock: a row waits until no change of the route can come near it


def test_a_row_waits_until_no_change_can_come_near_it() -> None:
    """Read at once it would be judged, and no more after a step that is taken in the second that follows."""
    rows = [row(f"r{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i) for i in range(40)]
    now = BEGIN + HOURS + 49.5
    early = evidence(rows, now, now=now).read(spec_of(), state_at(1))
    assert early.closed == 38
    moved = state_at(2, (BEGIN, BEGIN + HOURS, now + 0.1))
    after = evidence(rows, now, now + 60, now=now + 60).read(spec_of(), moved)
    assert after.unjudged == {"route change": 2}
    same_looks(after.looks[: len(early.looks)], early.looks)
    assert after.units[: len(early.units)] == early.units


def test_what_closed_behind_a_row_that_waits_waits_too() -> None:
    """Looks are in order: one that can be counted already may not overtake."""
    old = [row(f"o{i}", f"u{i}", arm_of(f"u{i}", 25), BEGIN + HOURS + 10 + i) for i in range(20)]
    now = BEGIN + HOURS + 30 + DAY
    fresh = row("x", "x", arm_of("x", 25), now - 1.0, as_of=BEGIN + HOURS + 15)  # a late one that closed before others
    assert of_kpi(read(old, now).looks, "hits", Stage.WEIGHTS) != []
    assert of_kpi(evidence([*old, fresh], now, now=now).read(spec_of(), LAST).looks, "hits", Stage.WEIGHTS) == []


# --- the check of the arms' shares


def test_the_shares_cross_at_the_same_place_in_any_batches() -> None:
    """Half of the canary's units are answered by the stable arm; looks of older exposures close in between."""
    rows = visits(8, 700)
    for one in rows:
        if one["revision"] == NEW and one["at"] > BEGIN + 1.3 * HOURS:
            one["revision"] = OLD
    whole = read(rows)
    expected = sample_ratio(LAST, whole)
    assert expected.crossed_after is not None
    assert 0 < expected.crossed_after < len(whole.looks)
    for moments in ([BEGIN + k * 0.1 * DAY for k in range(1, 16, 2)], [BEGIN + k * 0.31 * DAY for k in range(1, 9)]):
        for place in range(1, len(moments) + 1):
            found = sample_ratio(LAST, read(rows, *moments[:place]))
            assert found.crossed_after in (None, expected.crossed_after)
        assert sample_ratio(LAST, read(rows, *moments, LATER)) == expected


def test_equal_shares_do_not_cross() -> None:
    assert sample_ratio(LAST, read(visits(9, 700))).crossed_after is None


# --- the real reducer, from the event log


def test_the_real_reducer_gives_the_same_looks_in_any_batches(tmp_path: Path) -> None:
    """Exposures, scores and outcomes appended and reduced after every few visits, or all at once at the end."""
    once = _reduced(tmp_path / "once", 1_000)
    assert {(one.kpi, one.stage) for one in once} >= {("hits", Stage.WEIGHTS), ("errors", Stage.SHADOW)}
    assert sum(one.increment.sums[0, 0] for one in once if isinstance(one.increment, Moments)) > 0
    for every in (5, 13):
        same_looks(_reduced(tmp_path / str(every), every), once)


def _reduced(folder: Path, every: int) -> tuple[Look, ...]:
    log, rows = MemoryLog(), visits(4, 60)
    kpis = tuple(kpi.model_copy(update={"look_every": 4}) for kpi in (HITS, LOSS, ERRORS))
    plan = KpiPlan(True, "bought", by_unit=False, groups=(Group(0.0, kpis[2:]), Group(DAY, kpis[:2])))
    reducer = KpiReducer(log, StateFolder(folder), plan)
    for start in range(0, len(rows), every):
        part = rows[start : start + every]
        answered = [one for one in part if not one["error"]]
        log.append(Stream.SCORES, [scores(one["request_id"], one["revision"]) for one in answered])
        log.append(Stream.EXPOSURES, [_exposure(one, start + place) for place, one in enumerate(part)])
        bought = [(one, "abc"[int(one["hits"]) % 3]) for one in part]
        log.append(Stream.OUTCOMES, [outcome(f"o{r['id']}", r["request_id"], i, at=r["at"] + 60) for r, i in bought])
        reducer.reduce(part[-1]["at"])
    reducer.reduce(LATER)
    source = KpiEvidence(reducer, plan, COVARIATES, now=lambda: LATER)
    return source.read(spec_of(kpis), LAST).looks


def _exposure(one: dict[str, Any], sequence: int) -> Exposure:
    kept = ("unit", "revision", "bucket", "bucket_check", "error", "as_of")
    more = {name: one[name] for name in kept} | {"covariates": tuple(one["covariates"])}
    return exposure(one["request_id"], one["at"], sequence=sequence, **more)
