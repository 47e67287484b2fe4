"""Increments of evidence: the same whoever asks when, after restarts and lost answers, and each row taken once."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from kpi_rows import BEGIN, COVARIATES, DAY, HOURS, LATER, NEW, OLD, PLAN, Reductions, spec_of, state_at, visits
from same_looks import same_looks

from serinus.core.rollout.ports import RolloutEvidence
from serinus.core.stats.reading import Look
from serinus.core.words import Arm
from serinus.evidence.increments import Increment
from serinus.evidence.source import KpiEvidence
from serinus.rollout.engine import sample_ratio

LAST, SPEC = state_at(2), spec_of()


class Counted(Reductions):
    """Counts the rows that were read."""

    read = 0

    def closed_after(self, generation: int) -> pa.Table:
        found = super().closed_after(generation)
        self.read += len(found)
        return found


def _source(rows: Reductions) -> KpiEvidence:
    return KpiEvidence(rows, PLAN, COVARIATES, now=lambda: LATER)


def _asked(source: KpiEvidence, after: int) -> Increment:
    return source.increment(source.ask(SPEC, LAST), after)


def _whole(rows: list[dict[str, Any]], moments: list[float]) -> RolloutEvidence:
    return _source(Reductions(rows, moments)).read(SPEC, LAST)


MOMENTS = st.lists(st.tuples(st.floats(0.0, 1.6), st.booleans(), st.booleans()), max_size=7)


@given(MOMENTS, st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_increments_are_the_same_over_restarts_and_lost_answers(
    asked: list[tuple[float, bool, bool]], seed: int
) -> None:
    """Each moment: a reduction, then a question; by a process that began anew or not, its answer lost or not."""
    rows, after, found = visits(seed, 260, faults=True), 0, list[Look]()
    moments = [BEGIN + days * DAY for days, _, _ in sorted(asked)] + [LATER]
    reductions = Reductions(rows, [])
    source = _source(reductions)
    for moment, (_, restarts, lost) in zip(moments, [*sorted(asked), (0.0, False, False)], strict=True):
        reductions.moments = [*reductions.moments, moment]
        source = _source(reductions) if restarts else source
        answer = _asked(source, after)
        assert [one.sequence for one in answer.looks] == list(range(after + 1, answer.last + 1))
        if not lost:
            found, after = [*found, *answer.looks], answer.last
    whole = _whole(rows, moments)
    same_looks(tuple(found), whole.looks)
    assert answer.ratio == sample_ratio(LAST, whole)
    assert (dict(answer.unjudged), answer.closed) == (whole.unjudged, whole.closed)
    assert sum(answer.units.values()) == len(whole.units)
    assert {cell.arm for cell in answer.units} == set(Arm)


def test_a_question_takes_the_new_rows_only_however_many_there_were() -> None:
    """Also those that wait for their change of the route, or for their copy in shadow, are read once."""
    rows = visits(3, 1_200)
    steps = [BEGIN + 0.05 * DAY * one for one in range(1, 32)]
    counted = Counted(rows, [])
    source, after = _source(counted), 0
    for moment in steps:
        counted.moments = [*counted.moments, moment]
        after = _asked(source, after).last
    assert after > 50
    assert counted.read == len(Reductions(rows, steps).closed_after(0))


def test_an_earlier_look_is_asked_for_again_and_found_in_the_files() -> None:
    source = _source(Reductions(visits(4, 300), [LATER]))
    first = _asked(source, 0)
    assert _asked(source, first.last).looks == ()
    again = _asked(source, 3)
    same_looks(again.looks, first.looks[3:])
    assert (again.ratio, again.units, again.closed) == (first.ratio, first.units, first.closed)


def test_another_story_of_the_route_is_told_from_the_first_row() -> None:
    rows = visits(4, 300)
    source = _source(Reductions(rows, [LATER]))
    _asked(source, 0)
    other = state_at(2, (BEGIN, BEGIN + HOURS / 2, BEGIN + 2 * HOURS))
    found = source.increment(source.ask(SPEC, other), 0)
    expected = _source(Reductions(rows, [LATER])).read(SPEC, other)
    same_looks(found.looks, expected.looks)


def test_what_each_route_received_is_counted_of_both_revisions() -> None:
    rows = [one | {"route": f"{NEW}.{place % 2}"} for place, one in enumerate(visits(5, 40))]
    rows += [rows[0] | {"id": "x", "revision": "toy-v9-cccccc"}]
    found = _asked(_source(Reductions(rows, [LATER])), 0)
    mine = [one for one in rows if one["revision"] in (OLD, NEW)]
    assert dict(found.received) == {
        f"{NEW}.{one}": sum(row["route"] == f"{NEW}.{one}" for row in mine) for one in (0, 1)
    }
    assert found.at == max(one["at"] for one in mine)
