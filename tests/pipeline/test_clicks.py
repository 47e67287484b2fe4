"""The shop whose truth is known, trained for real: its versions have the effects that they are named for, and each of
them comes to the end that it should, through the real data plane, event log, judge and engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
import pyarrow.csv
from typer.testing import CliRunner

from examples.clicks import trained
from examples.clicks.in_process import Trained, rolled_out
from examples.clicks.log import impressions
from examples.clicks.quick import agrees
from examples.clicks.truth import random_costs, true_effect
from examples.clicks.versions.alterations import RANDOM_COSTS
from examples.clicks.world import World
from serinus.cli.app import app
from serinus.core.kpi import Kpi
from serinus.core.words import Phase
from serinus.wiring.project import Project, open_project

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SEED = 1
WORLD = World()


def run(project: Path, home: Path, *arguments: str) -> Project:
    """The pipeline in a process of its own."""
    environment = os.environ | {"SERINUS_PROJECT": str(project), "SERINUS_HOME": str(home)}
    command = [sys.executable, str(Path(__file__).parent / "forked_run.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return open_project(environment)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return run(ROOT / "examples/clicks", tmp_path_factory.mktemp("clicks"), "clicks", "one", "linear,gbdt")


@pytest.fixture(scope="module")
def shop(project: Project) -> Trained:
    return trained.load(project)


class TestTruth:
    """Within three standard errors of the label, and of what machines differ by in the last bits of a model."""

    def test_the_second_model_gains_eight_per_cent(self, project: Project, shop: Trained) -> None:
        better = trained.served(shop, trained.second(project))
        found = true_effect(WORLD, better, trained.served(shop, trained.first(project)))
        assert found.error < 0.003
        assert abs(found.estimate - 0.08) < 3 * found.error

    @pytest.mark.parametrize(("version", "label"), [("same", 0.0), ("slightly_worse", -0.05), ("worse", -0.15)])
    def test_a_version_costs_what_it_is_named_for(
        self, project: Project, shop: Trained, version: str, label: float
    ) -> None:
        stable = trained.served(shop, trained.second(project))
        found = true_effect(WORLD, trained.served(shop, trained.second(project, version), version), stable)
        assert found.error < 0.004
        assert abs(found.estimate - label) <= 3 * found.error

    @pytest.mark.parametrize("version", ["halved", "slow"])
    def test_what_keeps_the_order_keeps_the_clicks(self, project: Project, shop: Trained, version: str) -> None:
        stable = trained.served(shop, trained.second(project))
        changed = trained.served(shop, trained.second(project, version), version)
        assert true_effect(WORLD, changed, stable, visits=300).estimate == 0.0

    def test_a_version_that_fails_newcomers_loses_their_clicks(self, project: Project, shop: Trained) -> None:
        stable = trained.served(shop, trained.second(project))
        failing = trained.served(shop, trained.second(project, "failing"), "failing")
        assert true_effect(WORLD, failing, stable, visits=1_000).estimate < -0.1

    def test_a_random_order_costs_what_the_versions_are_made_of(self, project: Project, shop: Trained) -> None:
        found = random_costs(WORLD, trained.served(shop, trained.second(project)))
        assert abs(found.estimate - RANDOM_COSTS) < 3 * found.error


@pytest.mark.parametrize(
    ("version", "by"),
    [
        ("better", {"ctr"}),
        ("worse", {"ctr"}),
        ("halved", {"too_low"}),
        ("slow", {"slow_requests"}),
        ("failing", {"ctr", "error_rate"}),
    ],
)
def test_each_version_comes_to_its_end(
    project: Project, shop: Trained, tmp_path: Path, version: str, by: set[str]
) -> None:
    stable = trained.first(project) if version == "better" else trained.second(project)
    candidate = trained.second(project, "" if version == "better" else version)
    state, visits = rolled_out(shop, WORLD, tmp_path, stable, candidate, seed=SEED)
    assert agrees(version, state.phase), (state.phase, state.reason)
    assert state.decided_by in by
    assert state.phase is (Phase.PROMOTED if version == "better" else Phase.ROLLED_BACK)
    assert visits < 20_000
    assert not state.frozen


@pytest.mark.parametrize(("version", "phase"), [("better", Phase.PROMOTED), ("worse", Phase.ROLLED_BACK)])
def test_a_version_is_judged_by_what_visitors_do_alone(
    project: Project, shop: Trained, tmp_path: Path, version: str, phase: Phase
) -> None:
    """Whether a page was clicked at all: no score and no label is read, so the model could be anybody's."""
    clicked = {"name": "clicked_at_all", "formula": "outcome_rate", "outcome": "clicked", "direction": "higher",
               "role": "goal", "per": "request", "non_inferiority_margin": 0.05}  # fmt: skip
    requirements = shop.card.requirements.model_copy(update={"kpis": (Kpi.model_validate(clicked),)})
    by_clicks = replace(shop, card=shop.card.model_copy(update={"requirements": requirements}))
    stable = trained.first(project) if version == "better" else trained.second(project)
    candidate = trained.second(project, "" if version == "better" else version)
    state, visits = rolled_out(by_clicks, WORLD, tmp_path, stable, candidate, seed=SEED)
    assert (state.phase, state.decided_by) == (phase, "clicked_at_all")
    assert visits < 20_000


def test_the_same_seed_comes_to_the_same_end(project: Project, shop: Trained, tmp_path: Path) -> None:
    ends = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        place = tmp_path / str(number)
        ends.append(rolled_out(shop, WORLD, place, trained.second(project), trained.second(project, "halved"), seed=5))
    (one, many), (two, others) = ends
    assert many == others
    assert one.model_dump() == two.model_dump()


def test_the_ranking_skeleton_trains_on_data_of_its_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shop"
    (folder / "feature_repo").mkdir(parents=True)
    (folder / "problems").mkdir()
    for name in ("serinus.toml", "feature_repo/feature_store.yaml"):
        (folder / name).write_text((ROOT / "examples/renewal" / name).read_text())
    monkeypatch.setenv("SERINUS_PROJECT", str(folder))
    made = CliRunner().invoke(app, ["problem", "new", "page", "--kind", "ranking"])
    assert made.exit_code == 0, made.output
    data = folder / "problems/page/data"
    data.mkdir()
    pyarrow.csv.write_csv(impressions(WORLD, range(0, 8_000, 4)), data / "impressions.csv")
    project = run(folder, folder / ".serinus", "page", "one", "chosen")
    assert (project.home / "services/default/page/service.json").exists()
