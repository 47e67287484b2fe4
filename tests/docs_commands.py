"""Runs the commands of the documents: `docs_commands.py FILE_OR_FOLDER...`; each distinct one once, in order.

Invariant: a command in a bash block that a reader could type is run, in a copy of the project, and must end with 0.
Left out are `make` targets (CI runs them by themselves) and blocks that say `# needs your data`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("problems", "feature_repo", "examples")
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def main(arguments: list[str]) -> int:
    """1 when a command failed."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for folder in COPIED:
            shutil.copytree(ROOT / folder, scratch / folder, ignore=shutil.ignore_patterns(".serinus", "__pycache__"))
        shutil.copy(ROOT / "serinus.toml", scratch)
        results = [_run(command, scratch) for command in commands(arguments)]  # all of them, whatever the first says
        return int(not all(results))


def commands(places: list[str]) -> list[str]:
    """The commands of all documents."""
    files = [path for place in places for path in ([Path(place)] if place.endswith(".md") else _markdown(Path(place)))]
    found: dict[str, None] = {}
    for path in files:
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            if "# needs your data" in block:
                continue
            for line in block.splitlines():
                command = line.split("  #")[0].strip()
                if command and not command.startswith(("#", "make ")):
                    found[command] = None
    return list(found)


def _markdown(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.md"))


def _run(command: str, folder: Path) -> bool:
    began = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERINUS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    good = done.returncode == 0
    sys.stdout.write(f"{'ok  ' if good else 'FAIL'} {time.monotonic() - began:6.1f} s  {command}\n")
    if not good:
        sys.stdout.write(done.stdout[-1500:] + done.stderr[-1500:])
    return good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
