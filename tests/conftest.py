"""Fixtures shared by all tests: a project of its own for each test that asks for one."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import prometheus_client  # noqa: F401 - before Feast, whose import would make all registries share their values
import pytest
import yaml
from hypothesis import settings

from serinus.core.card import Problem, parse_card

ROOT = Path(__file__).parent.parent
# On a busy machine they take several times what they take on a quiet one; a test that hangs is still ended.
SLOW_SECONDS = 900
# Examples are the same in every run, and no test fails for the time it takes.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests get more time. Of several with one node id, workers would run a single one and report nothing."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"several tests have one node id: {', '.join(twice)}")


@pytest.fixture(scope="session")
def retail_card() -> Problem:
    """The card of problem retail."""
    return parse_card(yaml.safe_load((ROOT / "problems/retail/problem.yaml").read_text()))


@pytest.fixture(scope="session")
def renewal_card() -> Problem:
    """The card of the example of kind scoring."""
    path = ROOT / "examples/renewal/problems/renewal/problem.yaml"
    return parse_card(yaml.safe_load(path.read_text()))


@pytest.fixture
def renewal_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example project with a home of its own; the environment points at it."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples/renewal", folder, ignore=shutil.ignore_patterns(".serinus", "__pycache__"))
    for name in (
        "SERINUS_HOME",
        "SERINUS_PROFILE",
        "SERINUS_RUN",
        "SERINUS_TRACKING_URI",
        "SERINUS_ONLINE",
        "SERINUS_EVENTS",
        "SERINUS_SALT",
        "SERINUS_SERVICE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERINUS_PROJECT", str(folder))
    return folder
