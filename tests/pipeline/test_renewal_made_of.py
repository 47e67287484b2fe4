"""The table of what each step uses is whole: no step reads a field of the card that its `made_of` leaves out."""

from __future__ import annotations

import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from serinus.core.card import Problem
from serinus.core.fields import CardPart
from serinus.core.run import StepRecord
from serinus.wiring import step as frame
from serinus.wiring.journal import Journal
from serinus.wiring.made_of import USES, kind, made_of
from serinus.wiring.steps import data, models, release

pytestmark = pytest.mark.slow


def _parts(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in typing.get_args(annotation) for model in _parts(one)]


def _leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[tuple[type, str], str]]:
    """Every field that holds no part of the card itself, with its path."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}" if path else name
        parts = _parts(field.annotation)
        if not parts:
            yield (model, name), here
        for part in parts:
            yield from _leaves(part, here)


class Spy:
    """Which fields of the card are read while which step runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: dict[str, set[tuple[type, str]]] = defaultdict(set)
        self.step = ""
        plain, write = BaseModel.__getattribute__, Journal.write

        def get(part: BaseModel, name: str) -> Any:
            if self.step:
                self.read[self.step].add((type(part), name))
            return plain(part, name)

        def begins(project: Any, problem: Any, name: str, *rest: Any) -> Mapping[str, str]:
            found = made_of(project, problem, name, *rest)
            self.step = name
            self.read[name] |= set()
            return found

        def ended(journal: Journal, record: StepRecord) -> None:
            self.step = ""
            write(journal, record)

        monkeypatch.setattr(CardPart, "__getattribute__", get, raising=False)
        monkeypatch.setattr(frame, "made_of", begins)
        monkeypatch.setattr(Journal, "write", ended)


def _all_steps(work: Path) -> None:
    both = ("renewal", "job")
    data.prepare(*both, work / "raw")
    data.check_raw(*both, work / "raw", work / "accepted", work / "verdict_raw")
    data.build_features(*both, work / "accepted", work / "tables")
    data.build_training_set(*both, work / "tables", work / "set")
    data.check_training_set(*both, work / "set", work / "verdict")
    folders = {one: work / one for one in ("linear", "gbdt")}
    for one, folder in folders.items():
        models.train_candidate(*both, one, work / "set", work / "verdict", folder)
    models.evaluate_candidates(*both, work / "set", folders, work / "evaluation")
    models.judge_candidates(*both, "chosen", folders, work / "evaluation", work / "gates")
    version = release.register(*both, "chosen", folders, work / "evaluation", work / "gates")
    release.materialize(*both, version)
    release.deploy(*both, version, "renewal")


def test_no_step_reads_a_field_of_the_card_that_it_does_not_name(
    renewal_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    _all_steps(tmp_path)
    paths: dict[tuple[type, str], list[str]] = defaultdict(list)
    for field, path in _leaves(Problem):
        paths[field].append(path)
    assert set(map(kind, spy.read)) == set(USES), "every step was seen"
    unnamed = {
        (step, path)
        for step, fields in spy.read.items()
        for field in fields
        for path in paths.get(field, ())
        if not any(path == one or path.startswith(f"{one}.") for one in USES[kind(step)].card)
    }
    assert unnamed == set()
