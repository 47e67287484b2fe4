"""Addresses: their schemes, the table of a port, and no password in what is shown."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from serinus.core.addresses import by_scheme, path_of, scheme_of, shown
from serinus.core.errors import UsageError


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("redis://events:6379/0", "redis://events:6379/0"),
        ("redis://writer:secret@events:6379/0", "redis://events:6379/0"),
        ("redis://writer:se@cret@events:6379/0", "redis://events:6379/0"),
        ("redis://events:6379/0?protocol=3", "redis://events:6379/0"),
        ("redis://events:6379/0?password=secret", "redis://events:6379/0"),
        ("redis://events:6379/0?password=se@cret", "redis://…"),
        ("redis://writer:se?cret@events:6379/0", "redis://…"),
        ("/var/lib/online.db", "/var/lib/online.db"),
    ],
)
def test_an_address_is_shown_without_a_password(address: str, wanted: str) -> None:
    assert shown(address) == wanted


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        ("redis://events:6379/0", "redis"),
        ("REDISS://events", "rediss"),
        ("redis+cluster://events", "redis+cluster"),
        ("file:///var/lib/events", "file"),
        ("/var/lib/events", ""),
        ("events", ""),
        ("redis:events", ""),
        ("", ""),
    ],
)
def test_what_stands_before_the_separator_is_the_scheme(address: str, scheme: str) -> None:
    assert scheme_of(address) == scheme


@pytest.mark.parametrize(
    ("address", "path"),
    [("/a/b.db", "/a/b.db"), ("b.db", "b.db"), ("sqlite:///a/b.db", "/a/b.db"), ("file:///a", "/a")],
)
def test_a_path_is_one_with_a_scheme_or_without(address: str, path: str) -> None:
    assert path_of(address) == Path(path)


def test_nobody_else_takes_an_address_apart() -> None:
    root = Path(__file__).parents[3]
    found = [path for room in ("serinus", "components", "pipelines") for path in (root / room).rglob("*.py")]
    apart = {
        str(path.relative_to(root))
        for path in found
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare | ast.Call)
        for part in (node.args if isinstance(node, ast.Call) else [node.left, *node.comparators])
        if isinstance(part, ast.Constant) and part.value == "://"
    }
    assert apart == {"serinus/core/addresses.py"}


def test_a_table_is_asked_by_the_scheme() -> None:
    table = {"": "file", "file": "file", "redis": "server"}
    assert [by_scheme(table, one, "a log") for one in ("/a", "file:///a", "redis://a")] == ["file", "file", "server"]


def test_an_unknown_scheme_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"ftp://a:21 is no address of an event log") as told:
        by_scheme({"": 1, "redis": 2}, "ftp://user:secret@a:21", "an event log")
    assert told.value.hint == "known: a path, redis://…"


def test_a_path_is_told_where_none_is_taken() -> None:
    with pytest.raises(UsageError, match=r"^/a/b is no address of a bundle"):
        by_scheme({"bundles": 1}, "/a/b", "a bundle")
