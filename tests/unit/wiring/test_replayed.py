"""Distinct visits beside units: counted by rollout, over the replays that played through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.rollout.record import Replayed
from serinus.wiring.replayed import ReplayedFiles, replayed


def _rollouts(folder: Path) -> Path:
    for name in ("one", "two"):
        (folder / name).mkdir()
    return folder


def test_a_visit_of_another_pass_is_the_same_visit_once_more(tmp_path: Path) -> None:
    counted = ReplayedFiles(_rollouts(tmp_path), visits=10)
    for number in range(7):
        counted.count("one", number)
    for number in [*range(7, 24), 23]:  # the last one was sent again
        counted.count("two", number)
    assert replayed(tmp_path) == {}
    counted.write()
    assert replayed(tmp_path) == {"one": Replayed(visits=7, passes=1), "two": Replayed(visits=10, passes=3)}


def test_a_replay_goes_on_where_an_earlier_one_of_the_rollout_was(tmp_path: Path) -> None:
    """Each begins with the first visit."""
    for many in (4, 6):
        counted = ReplayedFiles(_rollouts(tmp_path) if many == 4 else tmp_path, visits=10)
        for number in range(many):
            counted.count("one", number)
            counted.write()
    assert replayed(tmp_path) == {"one": Replayed(visits=6, passes=2)}


@pytest.mark.parametrize(("passes", "flagged"), [(1, False), (3, False), (4, True), (25, True)])
def test_more_than_three_passes_are_flagged(passes: int, flagged: bool) -> None:
    found = Replayed(visits=1_300, passes=passes)
    assert str(found).startswith("1,300 distinct visits, played ")
    assert bool(found.flag) is flagged
    assert not flagged or f"up to {passes} times" in found.flag
