"""A durable file: whole or absent whatever goes wrong, and there for good once the call has returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.files import DISK, Disk
from tests.disks import FailingDisk, FullDisk, Killed, KillingDisk, PowerDisk

Visible = dict[str, bytes | None]


def visible(folder: Path) -> Visible:
    """Files and folders that do not hide."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        str(name): None if path.is_dir() else path.read_bytes()
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }


def fill(disk: Disk, path: Path, content: str) -> None:
    """Through the block that a library writes in."""
    with disk.replacing(path) as fresh, fresh.open("w") as handle:
        handle.write(content[: len(content) // 2])
        handle.flush()
        handle.write(content[len(content) // 2 :])


def bundle(disk: Disk, path: Path, content: str) -> None:
    """A folder with a folder in it."""
    with disk.new_folder(path) as fresh:
        (fresh / "inner").mkdir()
        (fresh / "inner/weights").write_text(content)
        (fresh / "manifest").write_text(content)


# What a name means to each: made from nothing, over an old file, or gone.
WORK: dict[str, Callable[[Disk, Path], None]] = {
    "replace": lambda disk, root: disk.replace(root / "old/file", "new"),
    "replace, first": lambda disk, root: disk.replace(root / "a/b/file", b"new"),
    "replacing": lambda disk, root: fill(disk, root / "old/file", "new content"),
    "new folder": lambda disk, root: bundle(disk, root / "bundles/x", "new"),
    "folder": lambda disk, root: disk.folder(root / "a"),
    "remove": lambda disk, root: disk.remove(root / "old/file"),
    "move": lambda disk, root: disk.move(root / "old", root / "moved"),
}


@pytest.fixture(params=WORK)
def work(request: pytest.FixtureRequest) -> Callable[[Disk, Path], None]:
    return WORK[request.param]


def begun(root: Path) -> Path:
    """What was there before."""
    (root / "old").mkdir(parents=True)
    (root / "old/file").write_text("old")
    return root


def outcomes(tmp_path: Path, work: Callable[[Disk, Path], None]) -> tuple[Visible, Visible]:
    """Before and after, when nothing goes wrong."""
    root = begun(tmp_path / "whole")
    before = visible(root)
    work(DISK, root)
    return before, visible(root)


def files(found: Visible) -> Visible:
    """A folder made for a file that did not come is no harm."""
    return {name: data for name, data in found.items() if data is not None}


def test_power_lost_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, work: Callable[[Disk, Path], None]) -> None:
    before, after = outcomes(tmp_path, work)
    disk = PowerDisk(begun(tmp_path / "root"))
    work(disk, disk.root)
    moments = disk.moments()
    assert len(moments) > 1
    for left in moments:
        if left.visible() not in (before, after):
            # A name in two folders, while it moves, or folders that wait for their first file.
            assert files(left.visible()) == files(before) or left.visible() == before | after
    assert [left.visible() for left in disk.now()] == [after] * 3
    disk.close()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_operation_the_old_or_the_new_is_left_and_the_work_can_be_done_again(
    tmp_path: Path, work: Callable[[Disk, Path], None], after: bool
) -> None:
    whole = outcomes(tmp_path, work)
    for at in range(100):
        root = begun(tmp_path / f"{at}")
        try:
            work(KillingDisk(at, after), root)
            break
        except Killed:
            assert files(visible(root)) in map(files, whole)
    assert at > 1 or visible(root) == whole[1]


def test_an_operation_that_fails_is_told_and_leaves_no_file_behind(
    tmp_path: Path, work: Callable[[Disk, Path], None]
) -> None:
    whole = outcomes(tmp_path, work)
    for at in range(100):
        root = begun(tmp_path / f"{at}")
        disk = FailingDisk(at)
        try:
            work(disk, root)
        except OSError:
            assert files(visible(root)) in map(files, whole)
            assert not [path for path in root.rglob(".*") if path.is_file()]
        else:
            break
    assert disk.count == at
    assert visible(root) == whole[1]


def test_a_full_disk_leaves_what_was_and_takes_the_next(tmp_path: Path) -> None:
    disk = FullDisk()
    disk.full = False
    disk.replace(tmp_path / "file", "old")
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        disk.replace(tmp_path / "file", "new, and longer than ten bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    disk.full = False
    disk.replace(tmp_path / "file", "newer")
    assert (tmp_path / "file").read_text() == "newer"


def test_a_block_that_fails_leaves_what_was(tmp_path: Path) -> None:
    DISK.replace(tmp_path / "file", "old")

    def half(into: AbstractContextManager[Path], name: str) -> None:
        with into as fresh:
            (fresh / name).write_text("ha")
            raise ValueError("half")

    for into, name in ((DISK.replacing(tmp_path / "file"), ""), (DISK.new_folder(tmp_path / "folder"), "file")):
        with pytest.raises(ValueError, match="half"):
            half(into, name)
    assert visible(tmp_path) == {"file": b"old"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_another_made_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    def late() -> None:
        with DISK.new_folder(tmp_path / "x") as fresh:
            (fresh / "file").write_text("second")
            bundle(DISK, tmp_path / "x", "first")

    with pytest.raises(FileExistsError):
        late()
    assert visible(tmp_path)["x/manifest"] == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    DISK.replace(tmp_path / "x", "file")
    with pytest.raises(FileExistsError):
        DISK.folder(tmp_path / "x")
    with pytest.raises(FileExistsError):
        bundle(DISK, tmp_path / "x", "folder")
    with pytest.raises(OSError, match="x"):
        DISK.replace(tmp_path / "x/y/z", "file")


def test_what_is_gone_already_may_be_removed(tmp_path: Path) -> None:
    bundle(DISK, tmp_path / "x", "old")
    for path in (tmp_path / "x", tmp_path / "x", tmp_path / "x/manifest", tmp_path / "never"):
        DISK.remove(path)
    assert visible(tmp_path) == {}


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Two in one process, as two threads would: the one that ends last stays, whole."""
    with DISK.replacing(tmp_path / "file") as first:
        first.write_text("first")
        DISK.replace(tmp_path / "file", "second")
        assert (tmp_path / "file").read_text() == "second"
    assert visible(tmp_path) == {"file": b"first"}


PLACES = st.sampled_from(["a", "b", "f/a", "f/b", "f/g/a"])
STEPS = st.lists(st.tuples(st.sampled_from(["replace", "remove"]), PLACES, st.binary(max_size=20)), max_size=8)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_any_history_of_replaced_and_removed_files_outlasts_a_loss_of_power(
    scratch: Path, steps: list[tuple[str, str, bytes]]
) -> None:
    with TemporaryDirectory(dir=scratch) as root:
        disk, now = PowerDisk(Path(root)), dict[str, bytes]()
        for kind, place, data in steps:
            before = dict(now)
            if kind == "replace":
                disk.replace(disk.root / place, data)
                now[place] = data
            else:
                disk.remove(disk.root / place)
                now.pop(place, None)
            for left in disk.moments():
                assert files(left.visible()) in (before, now)
            for left in disk.now():
                assert files(left.visible()) == now
        disk.close()
