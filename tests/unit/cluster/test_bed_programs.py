"""The bed's programs: what is there already is not built, and what the keeper reads is fetched before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tests.cluster.bed.__main__ as bed
from tests.cluster.bed import programs
from tests.cluster.bed.places import places
from tests.cluster.bed.programs import PROGRAMS, SOURCES, Program, build_programs


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


def test_a_new_build_leaves_the_newest_of_its_program_and_all_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_go", lambda *arguments, folder: Path(arguments[-2]).touch())
    for age, name in enumerate(["kube-proxy-00000000000c", "kube-proxy-00000000000b", "kube-proxy-00000000000a"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (age, age))
    others = [tmp_path / "kube-proxy-other-00000000000a", tmp_path / "kubectl-00000000000a"]
    for other in others:
        other.mkdir()
    programs._build(Program("kube-proxy", "etcd", "any"), tmp_path / "kube-proxy-00000000000d" / "kube-proxy")
    kept = {path.name for path in tmp_path.glob("kube-proxy-????????????")}
    assert kept == {"kube-proxy-00000000000a", "kube-proxy-00000000000b", "kube-proxy-00000000000d"}
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one[1])
def test_a_source_is_pinned_by_its_folder(source: tuple[str, str]) -> None:
    module, path = source
    assert f"{path} v" in (programs.MODULES / module / "go.mod").read_text(encoding="utf-8")
    assert f"{path} v" in (programs.MODULES / module / "go.sum").read_text(encoding="utf-8")


def test_one_program_is_made_alone_and_its_path_is_all_that_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    monkeypatch.setattr(programs, "_content", lambda program: "same")
    monkeypatch.setattr(programs, "_build", lambda program, binary: built.append(program.name))
    monkeypatch.setattr(bed, "unmount", lambda storage: None)
    where = places({"SERINUS_BED_CACHE": str(tmp_path)})
    assert bed._program(where, ["helm"]) == 0
    assert built == ["helm"]
    told = capsys.readouterr()
    assert told.out == f"{where.programs / 'helm-same' / 'helm'}\n"
    assert told.err.startswith("built helm in ")
    assert bed._program(where, ["helmet"]) == 1
    assert "actionlint" in capsys.readouterr().err
