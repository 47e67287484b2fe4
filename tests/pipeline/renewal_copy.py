"""A copy of the second problem's project, in which the commands of `serinus` run as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    """A copy of the example with a home, an empty working folder and one for temporary files of its own."""

    folder: Path
    empty: Path

    @property
    def home(self) -> Path:
        return self.folder / ".serinus"

    @property
    def temporary(self) -> Path:
        return self.folder.parent / "temporary"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SERINUS_")}
        return kept | {"SERINUS_PROJECT": str(self.folder), "TMPDIR": str(self.temporary)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "serinus", *arguments]

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.empty, env=self.environment, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def new_project(folder: Path) -> Project:
    """In an empty folder."""
    shutil.copytree(ROOT / "examples/renewal", folder / "project", ignore=shutil.ignore_patterns(".serinus"))
    (folder / "empty").mkdir()
    (folder / "temporary").mkdir()
    return Project(folder / "project", folder / "empty")
