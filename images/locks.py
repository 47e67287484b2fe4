"""Cuts each image's lock out of requirements.lock: `python images/locks.py`, or `--check` that they are fresh.

Invariant: an image's lock holds blocks of requirements.lock unchanged, so its versions and hashes are those that the
tests ran with; it needs no network. Who needs whom is read from the `# via` lines that pip-tools writes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAN = Path("requirements/images.toml")
HEAD = "# Cut from requirements.lock by images/locks.py, as requirements/images.toml says.\n"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==")


@dataclass
class Block:
    """One pinned package: its lines as they stand, and the names of those that need it."""

    lines: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Writes the locks; with --check writes nothing and is 1 when one is stale."""
    stale = [path for path, text in locks(ROOT).items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in arguments:
        sys.stdout.writelines(f"stale: {path.relative_to(ROOT)} (make lock)\n" for path in stale)
        return int(bool(stale))
    for path in stale:
        path.write_text(locks(ROOT)[path], "utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


def locks(root: Path) -> dict[Path, str]:
    """The text of every image's lock by its path. Raises KeyError for a need that requirements.lock does not pin."""
    blocks = read_blocks((root / "requirements.lock").read_text("utf-8"))
    plan = tomllib.loads((root / PLAN).read_text("utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    texts = {}
    for image, wanted in plan.items():
        named = [one for need in wanted["needs"] for one in (project if need == "serinus" else [need])]
        chosen = closure(blocks, map(_name, named), {_name(one) for one in wanted["leaves_out"]})
        body = "".join("".join(blocks[name].lines) for name in sorted(chosen))
        texts[root / PLAN.parent / f"{image}.lock"] = HEAD + body
    return texts


def read_blocks(text: str) -> dict[str, Block]:
    """The blocks of a lock by package, as pip-tools writes them: a pin, its hashes, and comments that say via whom."""
    blocks: dict[str, Block] = {}
    for line in text.splitlines(keepends=True):
        pin = _PIN.match(line)
        if pin:
            blocks[_name(pin[1])] = Block()
        if not blocks or not (pin or line.startswith(" ")):
            continue
        block = blocks[next(reversed(blocks))]
        block.lines.append(line)
        if via := re.match(r"\s+#\s+(?!via\s*$)(?:via\s+)?([A-Za-z0-9._-]+)", line):
            block.needed_by.append(_name(via[1]))
    return blocks


def closure(blocks: Mapping[str, Block], needs: Iterable[str], leaves_out: set[str]) -> set[str]:
    """`needs` and all that they need in turn, except through what is left out."""
    needed = defaultdict(set)
    for name, block in blocks.items():
        for by in block.needed_by:
            needed[by].add(name)
    todo, chosen = list(needs), set[str]()
    while todo:
        name = todo.pop()
        if name not in chosen | leaves_out:
            blocks[name]  # a need that is not pinned is a KeyError here
            chosen.add(name)
            todo += needed[name]
    return chosen


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0].lower().replace("_", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
