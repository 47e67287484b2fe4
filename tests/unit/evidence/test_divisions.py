"""KPI rows divided: no figure mixes revisions, arms, or answers that were seen with those that were not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.compute as pc
import pytest
from kpi_rows import BEGIN, DAY, HOURS, NEW, OLD, row, spec_of, state_at, table_of, visits

from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.evidence.divisions import By, divided


def keys(
    found: list[dict[str, object]], *rollouts: tuple[RolloutSpec, RolloutState], by: tuple[By, ...] = ()
) -> Counter:  # type: ignore[type-arg]
    return Counter(
        {
            (
                one.revision,
                one.arm,
                one.role,
                *((one.step,) if By.STEP in by else ()),
                *((one.day,) if By.DAY in by else ()),
            ): len(part)
            for one, part in divided(table_of(found), rollouts, by)
        }
    )


def test_shadow_answers_are_never_with_those_that_were_seen() -> None:
    rows = visits(3, 300)
    found = keys(rows, (spec_of(), state_at(2)))
    seen = Counter((one["revision"], one["at"] < BEGIN + HOURS) for one in rows)
    assert found[NEW, "canary", "shadow"] == seen[NEW, True]
    assert found[NEW, "canary", "primary"] == seen[NEW, False]
    assert found[OLD, "stable", "primary"] == seen[OLD, True] + seen[OLD, False]
    assert found.total() == len(rows)


def test_without_a_rollout_a_revision_is_alone() -> None:
    assert keys([row("r1", "u", OLD, BEGIN)]) == {(OLD, "alone", "primary"): 1}
    assert keys([]) == {("", "", ""): 0}


def test_revisions_of_one_version_are_apart() -> None:
    """A faulty predictor of the same model is another revision."""
    found = keys([row("r1", "u", OLD, BEGIN), row("r2", "u", "toy-v1-ffffff", BEGIN)])
    assert found == {(OLD, "alone", "primary"): 1, ("toy-v1-ffffff", "alone", "primary"): 1}


def test_what_a_caller_forced_is_apart_from_what_was_mirrored() -> None:
    rows = [row("r1", "u", NEW, BEGIN + 9.0), row("r2", "u", NEW, BEGIN + 9.0, forced_arm="canary")]
    assert keys(rows, (spec_of(), state_at(0))) == {(NEW, "canary", "shadow"): 1, (NEW, "canary", "forced"): 1}


def test_by_step_and_by_day() -> None:
    times = (BEGIN + 1.0, BEGIN + HOURS + 1.0, BEGIN + 2 * HOURS + 1.0)
    rows = [row(f"r{place}", "u", OLD, at, as_of=BEGIN + place * DAY) for place, at in enumerate(times)]
    asked = (spec_of(), state_at(2))
    assert keys(rows, asked, by=(By.STEP,)) == {(OLD, "stable", "primary", f"{NEW} {n}"): 1 for n in range(3)}
    days = ("2011-10-03", "2011-10-04", "2011-10-05")
    assert keys(rows, asked, by=(By.DAY,)) == {(OLD, "stable", "primary", day): 1 for day in days}


def promoted() -> RolloutState:
    """With a hold-back from ten hours after the begin."""
    route = Route(service="toy", rollout=NEW, number=4, stable=OLD, canary=NEW, weight=99, seed=7, hold_back=1)
    last = state_at(2)
    return last.changed(phase=Phase.PROMOTED, ended_at=BEGIN + 10 * 3600.0, route=route)


def test_a_hold_back_ends_with_the_next_rollouts_first_step() -> None:
    """What was promoted is the canary in its hold-back, and the stable arm of the next rollout."""
    other = spec_of().model_copy(
        update={
            "name": "toy-v3-cccccc",
            "stable": spec_of().candidate,
            "candidate": spec_of().candidate.model_copy(update={"name": "toy-v3-cccccc"}),
        }
    )
    later = state_at(0, (BEGIN + DAY,)).changed(name=other.name)
    rows = [
        row("r1", "u", NEW, BEGIN + DAY - 1),
        row("r2", "u", NEW, BEGIN + DAY + 1),
        row("r3", "u", OLD, BEGIN + DAY + 1),
    ]
    assert keys(rows, (spec_of(), promoted()), (other, later)) == {
        (NEW, "canary", "primary"): 1,
        (NEW, "stable", "primary"): 1,
        (OLD, "alone", "primary"): 1,
    }


@pytest.mark.parametrize("by", [(), (By.STEP,), (By.DAY,), (By.STEP, By.DAY)])
def test_every_row_is_in_one_division(by: tuple[By, ...]) -> None:
    table = table_of(visits(5, 200, faults=True))
    parts = [part for _, part in divided(table, [(spec_of(), state_at(2))], by)]
    ids = np.concatenate([part["id"].to_pylist() for part in parts])
    assert sorted(ids) == sorted(table["id"].to_pylist())
    assert all(len(pc.unique(part["revision"])) == 1 for part in parts)
