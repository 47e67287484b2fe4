"""How a rollout and its plan look at any width: what matters most stays whole; all figures are of the same units."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from serinus.cli import rollout_view
from serinus.core.card.operation import Rollout, Step
from serinus.core.kpi import Kpi
from serinus.core.names import ServiceRef
from serinus.core.rollout.record import Replayed
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import Act, Boundary, Closed, Condition, Crossing, Entry, RolloutState, StepRecord
from serinus.core.stats.plan import Planned
from serinus.core.stats.reading import Reading
from serinus.core.words import Arm, Phase, Stage, StepKind, Verdict
from tests.revisions import revision

WIDTHS = (60, 80, 120)
NAMES = ("hits_at_10", "conversion", "cold_start_share", "log_loss", "slow_requests", "revenue_of_hits_capped")
numbers = st.one_of(st.none(), st.floats(-1.0, 1.0), st.floats(-1e6, 1e6), st.just(float("inf")))
counts = st.integers(0, 10**7)


def drawn(what: RenderableType, width: int) -> str:
    """As a terminal of that width shows it."""
    screen = Console(width=width, file=StringIO(), highlight=False)
    screen.print(what)
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def lines_of(name: str, text: str) -> list[str]:
    """Lines that begin with a name or, where it was folded, with its first part."""
    return [one for one in text.splitlines() if one.startswith(name[:12])]


def kpi(name: str, role: str = "goal") -> Kpi:
    return Kpi.model_validate(
        {"name": name, "formula": "top_1", "direction": "higher", "role": role, "per": "unit",
         "non_inferiority_margin": 0.1}
    )  # fmt: skip


def spec_of(names: tuple[str, ...] = ("hits_at_10",)) -> RolloutSpec:
    """Shadow, then half of the traffic."""
    return RolloutSpec(
        name="toy-v2-bbbbbb",
        service=ServiceRef.parse("toy"),
        stable=revision("toy-v1-aaaaaa", 1),
        candidate=revision("toy-v2-bbbbbb", 2),
        seed=7,
        policy=Rollout(steps=(Step(shadow=1.0), Step(weight=50, min_units=60)), max_duration=60),
        kpis=tuple(kpi(one, "goal" if place == 0 else "guardrail") for place, one in enumerate(names)),
        independent_outcomes=True,
        created_at=0.0,
    )


def reading(name: str, stage: Stage = Stage.WEIGHTS, **changes: object) -> Reading:
    return Reading.model_validate(
        {
            "sequence": 1, "kpi": name, "role": "goal" if name == "hits_at_10" else "guardrail", "direction": "higher",
            "look": 1, "stage": stage, "step": 1, "at": 10.0, "step_units": 100,
            "units": {Arm.STABLE: 675, Arm.CANARY: 675}, "requests": {Arm.STABLE: 700, Arm.CANARY: 700},
            "estimate": 0.02, "low": -0.097, "high": 0.207, "boundary": -0.05, "margin": -0.1, "enough": True,
        }
        | changes
    )  # fmt: skip


def step(kind: StepKind, closed: dict[str, tuple[int, int]]) -> StepRecord:
    each = {
        name: Closed(units=units, requests=requests, first_at=1.0, last_at=2.0)
        for name, (units, requests) in closed.items()
    }
    shadow = kind is StepKind.SHADOW
    return StepRecord(
        kind=kind, weight=0 if shadow else 50, share=float(shadow), entered_at=0.0, left_at=9.0, closed=each
    )


def state_of(*readings: Reading, **changes: object) -> RolloutState:
    latest: dict[Stage, dict[str, Reading]] = {}
    for one in readings:
        latest.setdefault(one.stage, {})[one.kpi] = one
    steps = (
        step(StepKind.SHADOW, {"hits_at_10": (250, 260), "slow_requests": (300, 310)}),
        step(StepKind.WEIGHT, {"hits_at_10": (1350, 1400), "slow_requests": (1400, 1440)}),
    )
    first = RolloutState(name="toy-v2-bbbbbb", phase=Phase.STEPPING, step=1, steps=steps, readings=latest)
    return first.changed(**changes)


def crossing(name: str, boundary: Boundary, stage: Stage = Stage.WEIGHTS) -> Crossing:
    return Crossing(kpi=name, stage=stage, boundary=boundary, sequence=1, at=10.0)


readings = st.builds(
    reading,
    st.sampled_from(NAMES),
    st.sampled_from(Stage),
    estimate=numbers,
    low=numbers,
    high=numbers,
    boundary=st.floats(-1, 1),
    margin=st.one_of(st.none(), st.floats(-1, 1)),
    units=st.fixed_dictionaries({Arm.STABLE: counts, Arm.CANARY: counts}),
)


@settings(deadline=None, max_examples=60)
@given(found=st.lists(readings, min_size=1, max_size=8), width=st.integers(60, 200), expected=counts)
def test_at_any_width_effect_boundaries_and_verdict_are_whole(found: list[Reading], width: int, expected: int) -> None:
    spec, state = spec_of(NAMES), state_of(*found)
    text = drawn(rollout_view.kpis(spec, state, {Stage.WEIGHTS: {"hits_at_10": expected}}), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    stage = Stage.WEIGHTS if Stage.WEIGHTS in state.readings else Stage.SHADOW
    for name, one in state.readings[stage].items():
        (line,) = lines_of(name, text)
        figures = (one.boundary, *(() if one.margin is None else (one.margin,)))
        for value in (*figures, *(() if one.estimate is None else (one.estimate,))):
            assert rollout_view.percent(value) in line


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.builds(
            Planned,
            kpi=st.sampled_from(NAMES),
            step=st.integers(0, 9),
            stage=st.sampled_from(Stage),
            decision=st.sampled_from(("non_inferior", "harm")),
            effect=st.floats(-1, 1),
            floor_units=st.floats(0, 1e6),
            units_p50=st.one_of(st.none(), st.floats(1, 9e6)),
            units_p80=st.one_of(st.none(), st.floats(1, 9e6)),
            requests_p50=st.one_of(st.none(), st.floats(1, 9e8)),
            requests_p80=st.none(),
            days_p50=st.one_of(st.none(), st.floats(0, 1e5)),
            days_p80=st.none(),
            undecided=st.floats(0, 1),
        ),
        min_size=1,
        max_size=6,
    ),
    width=st.integers(60, 200),
)
def test_a_plan_can_be_read_at_any_width(rows: list[Planned], width: int) -> None:
    text = drawn(rollout_view.planned(rows), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    begun = [line for line in text.splitlines() if line[:1].isdigit()]
    assert len(begun) == len(rows)
    for line, one in zip(begun, rows, strict=True):
        units = "never" if one.units_p50 is None else f"{one.units_p50:,.0f}"
        assert {units, f"{one.undecided:.0%}"} <= set(line.split())


@pytest.mark.parametrize("width", WIDTHS)
def test_what_does_not_fit_is_named(width: int) -> None:
    text = drawn(rollout_view.kpis(spec_of(NAMES), state_of(*map(reading, NAMES)), {}), width)
    said = " ".join(text.partition("not shown")[2].split())
    titles = text.partition("hits_at_10")[0]
    assert all((title in titles) != (title in said) for title in ("interval", "units", "requests", "role", "-30 %"))


def test_at_eighty_columns_the_interval_and_the_units_are_there_too() -> None:
    text = drawn(
        rollout_view.kpis(spec_of(), state_of(reading("hits_at_10")), {Stage.WEIGHTS: {"hits_at_10": 2147}}), 80
    )
    for figure in ("+2.0", "-9.7 to +20.7", "-5.0", "-10.0", "1,350 of 2,147"):
        assert figure in text


def test_the_boundary_that_decided_is_in_the_table_whichever_it_was() -> None:
    harmed = reading("hits_at_10", estimate=-0.2, low=-0.3, high=-0.1, harm=True)
    ends = {"phase": Phase.ROLLED_BACK, "decided_by": "hits_at_10", "decided_in": Stage.WEIGHTS}
    state = state_of(harmed, crossed=(crossing("hits_at_10", "harm"),), **ends)
    (line,) = lines_of("hits_at_10", drawn(rollout_view.kpis(spec_of(), state, {}), 80))
    assert {"◂", "-20.0", "-5.0", "harmed"} <= set(line.split())


def test_the_stage_that_decided_is_the_one_shown() -> None:
    shadow = reading("hits_at_10", Stage.SHADOW, estimate=-0.5, units={Arm.STABLE: 100, Arm.CANARY: 100})
    state = state_of(shadow, reading("hits_at_10"), decided_in=Stage.SHADOW, phase=Phase.ROLLED_BACK)
    (line,) = lines_of("hits_at_10", drawn(rollout_view.kpis(spec_of(), state, {}), 120))
    assert {"-50.0", "100"} <= set(line.split())


def test_harm_after_the_promotion_has_its_boundary_too() -> None:
    late = reading("hits_at_10", estimate=-0.4, boundary=-0.07)
    state = state_of(
        reading("hits_at_10"),
        phase=Phase.PROMOTED,
        held_back={"hits_at_10": late},
        crossed=(crossing("hits_at_10", "late_harm"),),
    )
    text = drawn(rollout_view.kpis(spec_of(), state, {}), 80)
    assert "late harm" in text
    assert "-40.0" in text
    assert "-7.0" in text


def test_steps_table_and_log_tell_one_number_of_the_same_units() -> None:
    decided = {"phase": Phase.PROMOTED, "decided_by": "hits_at_10", "decided_in": Stage.WEIGHTS}
    spec, state = spec_of(), state_of(reading("hits_at_10"), reading("slow_requests", units={}), **decided)
    entry = Entry(
        at=10.0, step=1, event="end", verdict=Verdict.PROMOTE, reason="done", metric="hits_at_10", boundary=-0.1,
        units={Arm.STABLE: 675, Arm.CANARY: 675},
    )  # fmt: skip
    text = drawn(rollout_view.rollout(spec, state.logged(entry), {}), 200)
    assert text.count("1,350") == 3
    assert "1,350 units, 1,400 requests" in text
    assert "1400 units" not in text
    assert "1,440" not in text


@pytest.mark.parametrize("passes", [1, 4])
def test_distinct_visits_and_passes_stand_beside_the_units(passes: int) -> None:
    state, played = state_of(reading("hits_at_10")), Replayed(visits=300, passes=passes)
    text = drawn(rollout_view.rollout(spec_of(), state, {}, played), 80)
    assert f"replayed: {played}" in text
    assert ("! the same visits came up to 4 times" in text) is (passes == 4)
    assert "replayed" not in drawn(rollout_view.rollout(spec_of(), state, {}), 80)


def test_what_waits_and_what_is_away_is_told_with_its_reason() -> None:
    away = Condition(name="EvidenceFresh", holds=False, since=1.0, reason="the collector does not answer")
    state = state_of().changed(
        phase=Phase.STEPPING, pending={Act.ROUTE: "the gateway is slow", Act.START: ""}, conditions=(away,)
    )
    text = drawn(rollout_view.arms(spec_of(NAMES), state), 100)
    assert "! route is pending: the gateway is slow" in text
    assert "! not EvidenceFresh: the collector does not answer" in text
    assert "start is pending" not in text


def test_in_shadow_a_unit_is_on_both_arms_and_counts_once_in_the_log_too() -> None:
    entry = Entry(
        at=10.0, step=0, event="look", verdict=Verdict.CONTINUE, reason="", metric="hits_at_10",
        units={Arm.STABLE: 100, Arm.CANARY: 100},
    )  # fmt: skip
    assert "100 units" in rollout_view.entry_line(spec_of(), entry)


def test_a_test_that_counts_requests_tells_no_units() -> None:
    counted = reading("slow_requests", units={}, requests={Arm.STABLE: 720, Arm.CANARY: 720})
    text = drawn(rollout_view.kpis(spec_of(NAMES), state_of(counted), {}), 120)
    (line,) = lines_of("slow_requests", text)
    assert "1,440" in line
    assert "units" not in text


@given(times=st.lists(st.floats(0, 1e9), max_size=8))
def test_history_is_in_the_order_of_time(times: list[float]) -> None:
    entries = [
        Entry(at=at, step=0, event="step", verdict=Verdict.CONTINUE, reason=str(n)) for n, at in enumerate(times)
    ]
    found = RolloutState(name="toy", log=tuple(entries)).history
    assert [one.at for one in found] == sorted(times)
    assert sorted(one.reason for one in found) == sorted(one.reason for one in entries)


@given(value=numbers)
def test_a_figure_is_short_and_never_empty(value: float | None) -> None:
    shown = rollout_view.percent(value, "-")
    assert 0 < len(shown) <= 9
    assert "nan" not in shown
