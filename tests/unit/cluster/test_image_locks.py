"""The images' locks: cut from requirements.lock and nothing else, fresh, and without what an image must not have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from images.locks import Block, closure, locks, read_blocks

ROOT = Path(__file__).parents[3]
NAMES = ("predictor", "operator", "pipeline")
LOCK = """aa==1.0 \\
    --hash=sha256:00
    # via serinus (pyproject.toml)
b-b==2.0 \\
    --hash=sha256:01 \\
    --hash=sha256:02
    # via
    #   aa
    #   c
c==3.0 \\
    --hash=sha256:03
    # via serinus (pyproject.toml)
d==4.0 \\
    --hash=sha256:04
    # via b-b

# The following packages are considered to be unsafe in a requirements file:
e==5.0 \\
    --hash=sha256:05
    # via d
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_is_fresh(name: str) -> None:
    path = ROOT / "requirements" / f"{name}.lock"
    assert path.read_text("utf-8") == locks(ROOT)[path], "make lock"


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_pins_as_the_tests_do_and_names_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
    whole = (ROOT / "requirements.lock").read_text("utf-8")
    pins = re.findall(r"^\S+==\S+", text, re.MULTILINE)
    assert pins
    assert set(pins) <= set(re.findall(r"^\S+==\S+", whole, re.MULTILINE))
    assert set(re.findall(r"sha256:\w+", text)) <= set(re.findall(r"sha256:\w+", whole))
    assert "://" not in text


def test_what_an_image_leaves_out_is_left_out() -> None:
    plan = tomllib.loads((ROOT / "requirements" / "images.toml").read_text("utf-8"))
    for name, wanted in plan.items():
        text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
        assert not [one for one in wanted["leaves_out"] if re.search(rf"^{one}==", text, re.MULTILINE)], name


def test_a_lock_is_read_in_blocks_with_whom_they_serve() -> None:
    blocks = read_blocks(LOCK)
    assert {name: block.needed_by for name, block in blocks.items()} == {
        "aa": ["serinus"],
        "b-b": ["aa", "c"],
        "c": ["serinus"],
        "d": ["b-b"],
        "e": ["d"],
    }
    assert "".join(blocks["b-b"].lines).count("--hash") == 2
    assert "unsafe" not in "".join("".join(block.lines) for block in blocks.values())


def test_needs_bring_theirs_except_through_what_is_left_out() -> None:
    blocks = read_blocks(LOCK)
    assert closure(blocks, ["aa"], set()) == {"aa", "b-b", "d", "e"}
    assert closure(blocks, ["aa"], {"d"}) == {"aa", "b-b"}
    with pytest.raises(KeyError, match="nowhere"):
        closure({"aa": Block()}, ["nowhere"], set())
