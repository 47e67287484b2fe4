"""A replay that is taken up again sends the requests that it began with, or says that they are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.errors import Conflict, NotFound, UsageError
from serinus.core.names import ServiceRef
from serinus.wiring.replay import ReplayWish, plan_of


def _wish(visits: int = 5) -> ReplayWish:
    return ReplayWish(ServiceRef.parse("toy"), "mine", visits, 1, "http://127.0.0.1:1", "http://127.0.0.1:2")


def test_the_plan_stays_when_a_replay_is_taken_up_again(tmp_path: Path) -> None:
    begun = plan_of(tmp_path / "mine", _wish(), False, "run a, data 1")
    assert plan_of(tmp_path / "mine", _wish(), True, "run a, data 1") == begun


def test_requests_that_another_run_recorded_since_are_refused(tmp_path: Path) -> None:
    plan_of(tmp_path / "mine", _wish(), False, "run a, data 1")
    with pytest.raises(Conflict, match="no longer there") as raised:
        plan_of(tmp_path / "mine", _wish(), True, "run b, data 2")
    assert raised.value.cause == "it began with those of run a, data 1; now there are those of run b, data 2"


def test_another_replay_is_not_taken_up_under_this_name(tmp_path: Path) -> None:
    plan_of(tmp_path / "mine", _wish(), False, "")
    with pytest.raises(UsageError, match="started as another one"):
        plan_of(tmp_path / "mine", _wish(visits=6), True, "")
    with pytest.raises(Conflict, match="there is a replay mine already"):
        plan_of(tmp_path / "mine", _wish(), False, "")
    with pytest.raises(NotFound, match="no replay mine to resume"):
        plan_of(tmp_path / "gone", _wish(), True, "")


def test_a_name_whose_replay_was_killed_before_it_began_is_free(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".plan.json.4711").write_text('{"problem": "to')
    begun = plan_of(tmp_path / "mine", _wish(), False, "")
    assert plan_of(tmp_path / "mine", _wish(), True, "") == begun
