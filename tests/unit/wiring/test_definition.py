"""What a problem is defined by: another one than was submitted is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.errors import Conflict
from serinus.wiring.definition import definition, require_same
from serinus.wiring.project import open_project
from serinus.wiring.steps.data import prepare


def _definition() -> str:
    project = open_project()
    return definition(project, project.problem("renewal"))


@pytest.mark.parametrize(
    "path",
    [
        *("problems/renewal/problem.yaml", "problems/renewal/contract.yaml", "problems/renewal/dataset.py"),
        *("problems/renewal/features.py", "feature_repo/renewal.py"),
    ],
)
def test_whichever_file_judges_is_part_of_it(renewal_project: Path, path: str) -> None:
    before = _definition()
    file = renewal_project / path
    file.write_text(file.read_text() + "\n# edited\n")
    project = open_project()
    assert _definition() != before
    with pytest.raises(Conflict, match="the image holds another renewal") as raised:
        require_same(project, project.problem("renewal"), before)
    assert raised.value.cause == f"different: {path.removeprefix('problems/')}"
    assert "build the image anew" in raised.value.hint


def test_a_module_beside_the_known_ones_is_part_of_it(renewal_project: Path) -> None:
    before = _definition()
    (renewal_project / "problems/renewal/words.py").write_text("X = 1\n")
    assert _definition() != before


def test_where_a_project_lies_and_what_tools_leave_is_none(renewal_project: Path, tmp_path: Path) -> None:
    before = _definition()
    (renewal_project / "problems/renewal/__pycache__").mkdir()
    (renewal_project / "problems/renewal/__pycache__/odd.py").write_text("")
    (renewal_project / "problems/renewal/.hidden.yaml").write_text("")
    assert _definition() == before
    moved = renewal_project.rename(tmp_path / "elsewhere")
    project = open_project({}, start=moved)
    assert definition(project, project.problem("renewal")) == before


def test_an_image_of_another_card_reads_nothing(renewal_project: Path, tmp_path: Path) -> None:
    before = _definition()
    card = renewal_project / "problems/renewal/problem.yaml"
    card.write_text(card.read_text().replace("low: 0.6, high: 1.6", "low: 0.1, high: 9.0"))
    with pytest.raises(Conflict):
        prepare("renewal", "job-1", tmp_path / "raw", before)
    assert not (tmp_path / "raw").exists()


def test_a_run_that_says_nothing_is_not_refused(renewal_project: Path) -> None:
    project = open_project()
    require_same(project, project.problem("renewal"), "")
    require_same(project, project.problem("renewal"), _definition())
