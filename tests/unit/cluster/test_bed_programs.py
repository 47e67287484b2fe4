"""The bed's programs: what is there already is not built, and what the keeper reads is fetched before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.bed import programs
from tests.cluster.bed.programs import PROGRAMS, SOURCES, build_programs


def test_with_every_binary_there_the_sources_are_fetched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, str]] = []
    built: list[str] = []
    monkeypatch.setattr(programs, "_content", lambda program: "same")
    monkeypatch.setattr(programs, "_build", lambda program, binary: built.append(program.name))
    monkeypatch.setattr(programs, "module_folder", lambda module, path: read.append((module, path)))
    for one in PROGRAMS[1:]:
        (tmp_path / f"{one.name}-same").mkdir()
        (tmp_path / f"{one.name}-same" / one.name).touch()
    found = build_programs(tmp_path, lambda text: None)
    assert built == [PROGRAMS[0].name]
    assert set(found) == {one.name for one in PROGRAMS}
    assert read == list(SOURCES)


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one[1])
def test_a_source_is_pinned_by_its_folder(source: tuple[str, str]) -> None:
    module, path = source
    assert f"{path} v" in (programs.MODULES / module / "go.mod").read_text(encoding="utf-8")
    assert f"{path} v" in (programs.MODULES / module / "go.sum").read_text(encoding="utf-8")
