"""The same looks in any batches, given late or twice, and a kill at every point of every tick: the same end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_world import (
    ERRORS,
    HITS,
    LEVEL,
    REVENUE,
    SHADOW,
    START,
    Killed,
    World,
    ratio,
    reading,
    spec_of,
    stepping,
)

from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.reading import Reading
from serinus.core.words import Phase, Stage

SPEC = spec_of(
    {**SHADOW, "min_units": 60},
    {"weight": 25, "min_duration": timedelta(minutes=5)},
    {"approval": True},
    {"weight": 50, "min_units": 400},
    kpis=(HITS, REVENUE, LEVEL, ERRORS),
    independent_outcomes=True,
)
APPROVED = Intents(approved=(2,))


@st.composite
def histories(draw: st.DrawFn) -> list[Reading]:
    """Looks in order; steps rise as they close, some late. Most cross nothing."""
    found, at = [], 0
    for sequence in range(1, draw(st.integers(5, 40)) + 1):
        at = min(3, at + draw(st.sampled_from([0, 0, 0, 1])))
        index = max(0, at - draw(st.sampled_from([0] * 4 + [1])))
        more = {
            "harm": draw(st.sampled_from([False] * 60 + [True])),
            "non_inferior": draw(st.sampled_from([False, True, True])),
            "stage": Stage.SHADOW if index == 0 else Stage.WEIGHTS,
            "at": START + 60 * sequence - draw(st.sampled_from([0, 0, 90])),
        }
        found.append(reading(sequence, draw(st.sampled_from([one.name for one in SPEC.kpis])), step=index, **more))
    return found


def _in_batches(history: list[Reading], sizes: list[int], again: int, crossed: int | None) -> RolloutState:
    """Ticks of `sizes` new looks, each with the last `again` looks once more, at times of their own."""
    world, given_, now = stepping(SPEC), 0, START + 1
    more = {} if crossed is None else {"ratio": ratio(crossed)}
    for size in [*sizes, len(history)]:
        part = history[max(0, given_ - again) : given_ + size]
        given_, now = min(len(history), given_ + size), now + 17 * size
        world.tick(*reversed(part), now=now, intents=APPROVED, **more)
    return world.state


def _timeless(state: RolloutState) -> dict[str, Any]:
    """Without the clock of the machine that ticked."""
    dump = state.model_dump(exclude={"in_force_at", "ended_at"})
    for record in dump["steps"]:
        record.update(entered_at=0, in_force_at=0, left_at=0)
    dump["log"] = [one | {"at": 0} if one["event"] == "intent" else one for one in dump["log"]]
    return dump


@given(histories(), st.lists(st.integers(0, 6), max_size=12), st.integers(0, 3), st.none() | st.integers(0, 40))
@settings(max_examples=60)
def test_batches_do_not_matter(history: list[Reading], sizes: list[int], again: int, crossed: int | None) -> None:
    one_by_one = _in_batches(history, [1] * len(history), 0, crossed)
    assert _timeless(_in_batches(history, sizes, again, crossed)) == _timeless(one_by_one)


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_looks_delivered_late_are_waited_for(history: list[Reading], random: Any) -> None:
    shuffled, world = [*history], stepping(SPEC)
    random.shuffle(shuffled)
    for one in range(len(shuffled)):
        world.tick(*shuffled[: one + 1], now=START + one, intents=APPROVED)
    assert _timeless(world.state) == _timeless(_in_batches(history, [], 0, None))


def _promoted() -> list[Reading]:
    shadow = [
        reading(n, kpi, stage=Stage.SHADOW, non_inferior=n > 2) for n, kpi in enumerate(["hits", "revenue"] * 2, 1)
    ]
    first = [reading(n, "hits" if n % 2 else "revenue", step=1, non_inferior=True) for n in range(5, 14)]
    return shadow + first + [reading(n, step=3) for n in range(14, 16)]


def _rolled_back() -> list[Reading]:
    return [*_promoted()[:8], reading(9, "errors", step=1, harm=True)]


@pytest.mark.parametrize(("history", "phase"), [(_promoted(), Phase.PROMOTED), (_rolled_back(), Phase.ROLLED_BACK)])
def test_a_kill_at_every_point_ends_the_same(history: list[Reading], phase: Phase) -> None:
    """The points are before the write, before each action and before the note that they are done, of every tick."""
    whole = _with_kill(history, 0)
    points = _count(history)
    assert whole.state.phase is phase
    assert points > 20
    for point in range(1, points + 1):
        killed = _with_kill(history, point)
        assert _timeless(killed.state) == _timeless(whole.state)
        assert (killed.route, killed.arms, killed.champion) == (whole.route, whole.arms, whole.champion)
        assert killed.routes == whole.routes


def _with_kill(history: list[Reading], point: int, spec: RolloutSpec = SPEC) -> World:
    passed = [0]

    def alive(_: str) -> None:
        passed[0] += 1
        if passed[0] == point:
            raise Killed

    world = World(spec, alive=alive)
    for now in range(len(history) + 6):
        try:
            # One look more at each tick, all of them again: what a killed tick did not write comes once more.
            world.tick(*history[: max(0, now - 3)], now=START + now, intents=APPROVED)
        except Killed:
            world.tick(*history[: max(0, now - 3)], now=START + now, intents=APPROVED)
    return world


def _count(history: list[Reading]) -> int:
    points: list[str] = []
    world = World(SPEC, alive=points.append)
    for now in range(len(history) + 6):
        world.tick(*history[: max(0, now - 3)], now=START + now, intents=APPROVED)
    return len(points)
