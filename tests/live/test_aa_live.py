"""One version as two revisions, live: real predictors, recorded visits, a fixed seed; nothing may be rolled back.

The claim for many seeds is tested without servers (tests/stats); this shows that the real loop is the one that was
tested. It needs the pipeline of retail, some minutes: `make test-slow`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serinus.core.rollout.words import Phase
from serinus.wiring.demo_servers import collecting
from serinus.wiring.project import open_project
from serinus.wiring.replay import ReplayWish
from serinus.wiring.rollout_replay import Watchers, replay_rollouts
from serinus.wiring.rollout_start import want
from serinus.wiring.rollouts import Hosting, hosted

pytestmark = [pytest.mark.live, pytest.mark.timeout(1500)]
SEED, VISITS, PASSES = 20111003, 300, 3
SAME = "serinus/wiring/serve.py"


def test_a_version_is_not_rolled_back_against_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERINUS_HOME", str(tmp_path))
    command = [sys.executable, "-m", "serinus", "pipeline", "run", "retail", "--register", "chosen"]
    subprocess.run(command, check=True, capture_output=True)
    project = open_project()
    with (
        collecting("retail", tmp_path) as collector,
        hosted(project, "retail", Hosting(event_time=True, new_seed=lambda: SEED)) as host,
    ):
        while host.controller.stable() is None:
            host.controller.tick()
        name = want(project, "retail", "", SAME).rollout
        wish = ReplayWish("retail", "aa", VISITS, PASSES, "", collector)
        played = replay_rollouts(project, wish, host, Watchers(), every=50, name=name)
        state = host.ports.store.state(name)
    assert played.failed == 0
    assert state.phase in (Phase.PROMOTED, Phase.STEPPING)
    assert not [one for one in state.crossed if one.boundary == "harm"]
    assert sum(step.units for step in state.steps) > VISITS / 2
