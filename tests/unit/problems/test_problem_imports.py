"""Problems and Feast declarations know the rooms they may know, and nothing in serinus/ knows a problem."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROBLEMS = sorted([*ROOT.glob("problems/*/*.py"), *ROOT.glob("examples/*/problems/*/*.py")])
REPOS = sorted([*ROOT.glob("feature_repo/*.py"), *ROOT.glob("examples/*/feature_repo/*.py")])


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", PROBLEMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_problem_imports_core_and_features_only(path: Path) -> None:
    ours = {name for name in _imports(path) if name.split(".")[0] in ("serinus", "components", "pipelines")}
    assert all(name.startswith(("serinus.core", "serinus.features")) for name in ours), ours


@pytest.mark.parametrize("path", REPOS, ids=lambda path: str(path.relative_to(ROOT)))
def test_declarations_import_feast_and_features_only(path: Path) -> None:
    assert all(
        name.split(".")[0] in ("feast", "datetime") or name.startswith("serinus.features") for name in _imports(path)
    )


def test_nothing_in_serinus_names_a_problem_or_its_words() -> None:
    """The demo runs retail by name; everything else must work for any problem."""
    words = re.compile(r"\b(retail|renewal|85123A|customer_profile|StockCode|InvoiceNo)\b")
    for folder in ("serinus", "components", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "demo.py":
                continue
            named = [line for line in path.read_text().splitlines() if words.search(line)]
            assert not named, f"{path}: {named}"
