"""The demo's own steps in its run's journal, and an earlier demo's service set aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serinus.core.errors import Unavailable
from serinus.wiring.demo import PROBLEM, Demo, _set_aside
from serinus.wiring.project import Project, open_project

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project of the demo with a home of its own."""
    return open_project({"SERINUS_PROJECT": str(ROOT), "SERINUS_HOME": str(tmp_path)})


def test_a_step_that_raises_is_recorded_with_its_fault(project: Project) -> None:
    demo = Demo(project, "run", 0.0, 0.0)

    def work() -> tuple[int, dict[str, Any]]:
        raise Unavailable("nobody answers", hint="start it")

    with pytest.raises(Unavailable):
        demo.step("rollouts", work)
    assert demo.step("trace", lambda: (0, {"found": 1})) == 0
    assert demo.step("lookup", lambda: (4, {})) == 4
    failure = demo.journal.read().failure()
    found = {step.name: step.status for step in demo.journal.read().steps}
    assert found == {"lookup": "failed", "trace": "ok", "rollouts": "failed"}
    rollouts = next(step for step in demo.journal.read().steps if step.name == "rollouts")
    assert failure is not None
    assert rollouts.error is not None
    assert (rollouts.error.headline, rollouts.error.exit_code) == ("nobody answers", 5)


def test_an_earlier_service_is_moved_and_not_lost(project: Project) -> None:
    service, events = f"services/default/{PROBLEM}", f"events/default/{PROBLEM}"
    kept = {f"{service}/service.json": "old", f"{service}/route.json": "old", f"{events}/x": "old"}
    for place, text in kept.items():
        (project.home / place).parent.mkdir(parents=True, exist_ok=True)
        (project.home / place).write_text(text)
    _set_aside(project, "run-2")
    _set_aside(project, "run-2")  # nothing is there any more
    assert not (project.home / service).exists()
    assert not (project.home / events).exists()
    assert {place: (project.home / "before/run-2" / place).read_text() for place in kept} == kept
