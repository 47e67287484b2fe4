"""Only `core/kpi` knows formulas by their names (DESIGN D22): all other code asks the value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from serinus.core.kpi import FORMULAS
from serinus.core.metric import metrics_at

ROOT = Path(__file__).parents[4]
ROOMS = ("serinus", "components", "pipelines", "examples", "images")
# Words that are also those of gates, metrics or the card's own KPIs: a text is no formula because it is one of them.
OF_OTHERS = {*metrics_at(10), "calibration", "conversion", "revenue", "error_rate"}


def _about_formula(node: ast.expr) -> bool:
    """`x.formula`, `x["formula"]`, `formula`, and the names of those."""
    if isinstance(node, ast.Attribute):
        return node.attr == "formula" or (node.attr == "name" and _about_formula(node.value))
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "formula"
    return isinstance(node, ast.Name) and node.id == "formula"


def offences(text: str) -> Iterator[str]:
    """Where a module compares a formula with anything, looks something up by one, or writes a formula's name."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Compare) and any(map(_about_formula, (node.left, *node.comparators))):
            yield f"{line} compares a formula"
        if isinstance(node, ast.Subscript) and _about_formula(node.slice):
            yield f"{line} looks something up by a formula"
        if isinstance(node, ast.Constant) and node.value in FORMULAS.keys() - OF_OTHERS:
            yield f"{line} names formula {node.value}"


def test_no_module_outside_compares_or_lists_the_names_of_formulas() -> None:
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    asked = [path for path in files if "core/kpi/" not in path.as_posix()]
    assert len(asked) > 250
    found = {str(path.relative_to(ROOT)): list(offences(path.read_text(encoding="utf-8"))) for path in asked}
    assert {path: told for path, told in found.items() if told} == {}


@pytest.mark.parametrize(
    "text",
    [
        'if kpi.formula == "calibration": pass',
        'if one["formula"] != "revenue": pass',
        "if kpi.formula.name in found: pass",
        "if formula is CTR: pass",
        'WANTED = {"hits_at_k": 1}',
        "found[kpi.formula]",
    ],
)
def test_a_module_that_does_is_found(text: str) -> None:
    assert list(offences(text))
