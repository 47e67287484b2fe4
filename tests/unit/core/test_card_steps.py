"""The card told as four steps; and each of its fields is read somewhere, or is said not to be."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from serinus.core.card import Problem, parse_card
from serinus.core.card.steps import NOT_USED_YET, TITLES, four_steps, not_used_yet

ROOT = Path(__file__).parents[3]


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The paths of all fields, of lists and optional parts as well."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        parts = _models(field.annotation)
        if not parts:
            yield here
        for part in parts:
            yield from fields(part, here)


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in typing.get_args(annotation) for model in _models(one)]


def test_each_field_of_a_card_is_read_somewhere_or_said_not_to_be() -> None:
    folders = (ROOT / "serinus", ROOT / "problems", ROOT / "examples")
    files = [path for folder in folders for path in folder.rglob("*.py")]
    declared = {ROOT / f"serinus/core/card/{one}.py" for one in ("requirements", "framing", "data", "operation")}
    code = "\n".join(path.read_text() for path in files if path not in declared)
    unread = [
        path
        for path in fields(Problem)
        if not path.startswith(NOT_USED_YET) and not re.search(rf"\.{path.rpartition('.')[2]}\b", code)
    ]
    assert unread == []


@pytest.mark.parametrize("path", NOT_USED_YET)
def test_what_nobody_reads_may_be_left_out(retail_card: Problem, path: str) -> None:
    raw = retail_card.model_dump(mode="json", by_alias=True)
    *parents, last = path.split(".")
    part = raw
    for name in parents:
        part = part[name]
    del part[last]
    card = parse_card(raw)
    assert path not in not_used_yet(card)
    assert path in not_used_yet(retail_card)


def test_the_four_steps_say_what_the_card_says(retail_card: Problem, renewal_card: Problem) -> None:
    steps = four_steps(retail_card)
    assert [step["title"] for step in steps] == list(TITLES)
    assert steps[0]["says"]["KPIs, goal"] == "hits_at_10"
    assert steps[1]["says"]["task"] == "ranking of item for each customer"
    assert steps[2]["says"]["candidates"] == "linear, gbdt, neural"
    assert "slices_hold (warning)" in steps[3]["says"]["gates"]
    assert four_steps(renewal_card)[1]["says"]["task"] == "scoring: one probability for each account"
