"""The folder of a bed: what `down` may take away, and what it may not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.bed import control_groups, namespaces
from tests.cluster.bed.__main__ import _require_visible
from tests.cluster.bed.__main__ import main as bed
from tests.cluster.bed.buildah import mounts_below
from tests.cluster.bed.places import places


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "folders", lambda group: [])
    monkeypatch.setattr(namespaces, "_own_processes", lambda where: [])


def test_a_beds_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    where = places({"SERINUS_BED_HOME": str(tmp_path / "run")})
    where.logs.mkdir(parents=True)
    where.plan.touch()
    (where.run / "link").symlink_to(tmp_path)
    namespaces.end(where)
    assert not where.run.exists()
    assert tmp_path.exists()


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    where = places({"SERINUS_BED_HOME": str(tmp_path / "run")})
    where.run.mkdir()
    namespaces.end(where)
    assert not where.run.exists()


def test_a_folder_that_is_no_beds_is_left_and_told(tmp_path: Path) -> None:
    where = places({"SERINUS_BED_HOME": str(tmp_path)})
    (tmp_path / "thesis.txt").touch()
    assert f"folder {tmp_path}, which is not a bed's: it has no plan.json" in namespaces.end(where)
    assert (tmp_path / "thesis.txt").exists()


def test_mounts_of_a_neighbour_are_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a /b/run tmpfs rw 0 0\na /b/run/x tmpfs rw 0 0\na /b/run2 tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert mounts_below(Path("/b/run")) == [Path("/b/run"), Path("/b/run/x")]


def test_a_machine_without_the_control_groups_it_needs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control_groups, "_ROOT", tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    control_groups.require()
    (tmp_path / "cgroup.controllers").touch()
    for command in ("up", "build"):
        monkeypatch.setattr(sys, "argv", ["bed", command])
        assert bed() == 1
        assert "control groups of version 1" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", ["/var/lib/checkout", "/opt/go"])
def test_what_the_bed_would_hide_is_told(hidden: str) -> None:
    with pytest.raises(LookupError, match=f"{hidden} cannot be seen in the bed"):
        _require_visible(Path("/usr"), Path(hidden))
