"""The documents know every formula, and the reference says of each what the formula itself says."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.fields import Kind
from serinus.core.kpi import FORMULAS, Formula

DOCS = Path(__file__).parents[4] / "docs"
HEAD = "| formula | of kind | needs | judged by | in shadow | role |"
JUDGED_BY = {
    "ratio": "means by unit",
    "calibration": "predictions over observations of one arm",
    "count": "counts of incidents",
}


def line(formula: Formula) -> str:
    """A formula's row of the reference."""
    kind = "any" if set(formula.for_kinds) == set(Kind) else ", ".join(formula.for_kinds)
    shadow = "where outcomes are those of a log" if formula.survives_shadow else "never"
    cells = (
        f"`{formula.name}`",
        kind,
        ", ".join(formula.guards.needs),
        JUDGED_BY[formula.estimator],
        "always" if formula.known_at_once else shadow,
        "report" if formula.guards.report_only else "any",
    )
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def test_the_reference_has_the_table_of_the_registry() -> None:
    text = (DOCS / "reference/problem-card.md").read_text(encoding="utf-8")
    table = text.partition(HEAD)[2].partition("\n\n")[0].strip().splitlines()[1:]
    assert table == [line(one) for one in FORMULAS.values()]


@pytest.mark.parametrize("name", FORMULAS)
def test_the_concepts_say_what_each_measures(name: str) -> None:
    text = (DOCS / "concepts/kpis.md").read_text(encoding="utf-8")
    (row,) = (one for one in text.splitlines() if one.startswith("|") and f"`{name}`" in one.split("|")[2])
    assert all(f"`{field}`" in row.split("|")[4] for field in FORMULAS[name].guards.needs)
