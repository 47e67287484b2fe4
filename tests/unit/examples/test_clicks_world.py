"""The shop whose truth is known: visitors and clicks are functions of the seed, and a click follows what is shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[3]))
from examples.clicks.log import FILE, impressions
from examples.clicks.traffic import Driver
from examples.clicks.world import PLACES, SHOPPERS, Visit, World, item_name, looked_at

WORLD = World()


def shown(visit: Visit) -> list[int]:
    return [int(item) for item in visit.items]


@given(st.integers(0, 10_000_000))
def test_a_visit_is_that_of_its_number(number: int) -> None:
    one, two = World().visit(number), World().visit(number)
    assert (one.request_id, one.shopper.name, shown(one)) == (two.request_id, two.shopper.name, shown(two))
    assert World().clicked(one, shown(one)) == World().clicked(two, shown(two))
    assert len(set(shown(one))) == PLACES


def test_another_seed_is_another_shop() -> None:
    assert [shown(World(2).visit(n)) for n in range(5)] != [shown(WORLD.visit(n)) for n in range(5)]


def test_most_visitors_return_and_some_come_for_the_first_time() -> None:
    names = [visit.shopper.name for visit in WORLD.visits(2_000)]
    known = [name for name in names if int(name[1:]) < SHOPPERS]
    assert 0.75 < len(known) / len(names) < 0.85
    assert len(set(known)) < len(known)
    assert len(set(names) - set(known)) == len(names) - len(known)


@given(st.integers(0, 10_000), st.integers(1, PLACES - 1))
def test_an_item_that_moves_up_is_not_clicked_less(number: int, place: int) -> None:
    """Its draw is its own, wherever it stands; so versions are compared on the same visitors in the same mood."""
    visit = WORLD.visit(number)
    before = shown(visit)
    moved = before[place]
    after = [moved, *(item for item in before if item != moved)]
    assert (moved in WORLD.clicked(visit, before)) <= (moved in WORLD.clicked(visit, after))


def test_clicks_come_as_often_as_the_world_expects() -> None:
    visits = list(WORLD.visits(2_000, start=77))
    order = np.arange(PLACES)
    clicks = np.array([len(WORLD.clicked(visit, shown(visit))) for visit in visits])
    expected = np.array([WORLD.expected(visit, order) for visit in visits])
    spread = (clicks - expected).std() * np.sqrt(len(visits))
    assert abs(clicks.sum() - expected.sum()) < 4 * spread


def test_the_best_order_beats_chance_and_chance_the_worst() -> None:
    for visit in WORLD.visits(50):
        best = np.argsort(-WORLD.chances(visit))
        assert WORLD.expected(visit, best) > WORLD.expected_at_random(visit) > WORLD.expected(visit, best[::-1])


def test_the_mean_over_all_orders_is_that_of_many() -> None:
    visit, rng = WORLD.visit(3), np.random.default_rng(1)
    drawn = [WORLD.expected(visit, rng.permutation(PLACES)) for _ in range(4_000)]
    assert np.mean(drawn) == pytest.approx(WORLD.expected_at_random(visit), abs=4 * np.std(drawn) / np.sqrt(4_000))
    assert looked_at(PLACES)[0] == 1.0


def test_the_log_in_the_repository_is_the_one_that_the_world_writes() -> None:
    """`python -m examples.clicks log` writes it anew."""
    whole = pq.ParquetFile(FILE).read()
    assert whole.num_rows == 80_000
    for start in (0, 4_000, 7_950):
        made = impressions(WORLD, range(start, start + 50))
        there = whole.slice(start * PLACES, 50 * PLACES)
        assert made.to_pylist() == there.cast(made.schema).to_pylist()


class TestDriver:
    def test_it_reports_the_clicks_on_what_was_shown(self) -> None:
        reported: list[Any] = []
        driver = Driver(
            WORLD, lambda visit: [item_name(item) for item in shown(visit)], reported.extend, lambda: 1_800_000_000.0
        )
        visit = next(one for one in WORLD.visits(50) if len(WORLD.clicked(one, shown(one))) > 1)
        assert driver.play(visit)
        clicked = [item_name(item) for item in WORLD.clicked(visit, shown(visit))]
        assert [one["item"] for one in reported] == clicked
        assert reported[0] == {
            "id": f"{visit.request_id}/{clicked[0]}",
            "name": "clicked",
            "request_id": visit.request_id,
            "item": clicked[0],
            "as_of": "2027-01-15T08:00:00+00:00",
        }

    def test_nobody_clicks_on_an_empty_page(self) -> None:
        reported: list[Any] = []
        assert not Driver(WORLD, lambda _: None, reported.extend).play(WORLD.visit(0))
        assert reported == []
