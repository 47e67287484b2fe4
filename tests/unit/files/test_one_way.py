"""Whoever keeps something on a disk goes through `serinus.files`: no source renames, syncs or locks by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("serinus", "components", "pipelines", "problems", "feature_repo", "examples")
ROOM = ROOT / "serinus/files"
MODULES = {
    "os": {"rename", "replace", "renames", "fsync", "fdatasync", "lockf"},
    "shutil": {"move"},
    "fcntl": {"flock", "lockf", "fcntl"},
}


def ways_round(source: str) -> Iterator[str]:
    """Lines of a module that rename, sync or lock.

    `a.replace(b)` is a path's: those of text, times and values take other arguments. So is `a.rename(b)`, unless `b` is
    a constant, which names a column.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and {one.name for one in node.names} & MODULES.get(
            node.module or "", set()
        ):
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _renames(node, node.func):
            yield f"{node.lineno}: {ast.unparse(node)}"


def _renames(call: ast.Call, name: ast.Attribute) -> bool:
    owner = name.value.id if isinstance(name.value, ast.Name) else ""
    if owner in MODULES:
        return name.attr in MODULES[owner]
    alone = len(call.args) == 1 and not call.keywords
    return alone and (name.attr == "replace" or (name.attr == "rename" and not isinstance(call.args[0], ast.Constant)))


@pytest.mark.parametrize(
    "source",
    [
        "os.replace(a, b)",
        "fresh.replace(path)",
        "path.with_name('x').rename(self._path)",
        "os.fsync(handle)",
        "fcntl.flock(handle, how)",
        "from os import fsync",
        "shutil.move(a, b)",
    ],
)
def test_a_way_round_is_seen(source: str) -> None:
    assert list(ways_round(source))


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('_', '-')",
        "moment.replace(tzinfo=None)",
        "dataclasses.replace(one, a=1)",
        "series.rename('spent')",
        "frame.rename(columns=names)",
        "DISK.replace(path, text)",
        "disk.rename(path, torn)",
    ],
)
def test_what_only_looks_like_one_is_not(source: str) -> None:
    assert not list(ways_round(source))


def test_nobody_goes_round_the_room() -> None:
    modules = [path for room in SOURCES for path in (ROOT / room).rglob("*.py") if ROOM not in path.parents]
    found = {str(path.relative_to(ROOT)): list(ways_round(path.read_text(encoding="utf-8"))) for path in modules}
    assert len(modules) > 200
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert [line for path in ROOM.glob("*.py") for line in ways_round(path.read_text(encoding="utf-8"))]
