"""Shared folders say who wrote them, and a step reads only what its own run wrote; one run of a problem at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serinus.core.errors import Conflict
from serinus.wiring.shared import SharedFolder, WrittenBy, feature_sources, recordings, turn


@pytest.fixture(params=[feature_sources, recordings])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedFolder:
    found: SharedFolder = request.param(tmp_path, "toy")
    return found


def test_what_a_run_wrote_it_reads(shared: SharedFolder) -> None:
    with shared.writing(WrittenBy(run="a", snapshot_hash="1")):
        pass
    with shared.reading("a", "1"), shared.reading("a"):
        pass


@pytest.mark.parametrize(("run", "data"), [("b", "1"), ("a", "2")], ids=["another run", "other data"])
def test_what_another_run_wrote_is_refused(shared: SharedFolder, run: str, data: str) -> None:
    with shared.writing(WrittenBy(run="a", snapshot_hash="1")):
        pass
    with pytest.raises(Conflict, match=f"are not those of run {run}") as raised, shared.reading(run, data):
        pass
    assert "written by run a, of data 1" in raised.value.cause
    assert f"--resume {run}" in raised.value.hint
    assert raised.value.exit_code == 6


def test_what_was_not_written_to_its_end_is_nobodys(shared: SharedFolder) -> None:
    with shared.writing(WrittenBy(run="a")):
        pass
    with pytest.raises(ZeroDivisionError), shared.writing(WrittenBy(run="a")):
        _ = 1 / 0
    with pytest.raises(Conflict, match="not those of run a") as raised, shared.reading("a"):
        pass
    assert "not written to their end" in raised.value.cause


def test_a_damaged_mark_is_no_mark(shared: SharedFolder) -> None:
    with shared.writing(WrittenBy(run="a")):
        pass
    (mark,) = shared.folder.parent.glob(".toy.written_by.json")
    mark.write_text("{")
    assert shared.written_by() is None


def test_a_writer_may_replace_the_folder(shared: SharedFolder) -> None:
    shared.folder.mkdir(parents=True)
    with shared.writing(WrittenBy(run="a")):
        shared.folder.rmdir()
        shared.folder.mkdir()
    with shared.reading("a"):
        pass


def test_the_second_run_of_a_problem_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with turn(tmp_path, "toy", "first"):
        with (
            pytest.raises(Conflict, match="another run of toy is under way") as raised,
            turn(tmp_path, "toy", "second"),
        ):
            pass
        assert "run first, process" in raised.value.cause
        with turn(tmp_path, "another", "third"):
            pass
    with turn(tmp_path, "toy", "second"):
        pass


HOLD = """
import sys, time
from pathlib import Path
from serinus.wiring.shared import turn
with turn(Path(sys.argv[1]), "toy", "killed"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_death_gives_the_turn_back(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Conflict, match="under way"), turn(tmp_path, "toy", "next"):
        pass
    holder.kill()
    holder.communicate()
    with turn(tmp_path, "toy", "next"):
        pass
