"""The commands of docs/how-to/kubernetes.md, and a folder as a reader has it to run them in.

Invariant: a block is run as it stands in the document, by bash, and must end with 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kube import Kube
from tests.cluster.manifests import ROOT
from tests.docs_commands import BLOCK

DOCUMENT = ROOT / "docs" / "how-to" / "kubernetes.md"
MARK = "# needs a cluster"
_COPIED = ("helm", "manifests")


@dataclass(frozen=True)
class Blocks:
    """What needs a cluster, by what it is for; without what `make` does, for CI runs that by itself."""

    apply: str
    train: str
    follow: str
    wait: str
    ask: str
    look_up: str
    weigh: str
    ask_again: str
    look: str
    end: str
    install: str


@dataclass(frozen=True)
class Reader:
    """`folder` is a copy of the chart and the manifests, with a KUBECONFIG that commands may change."""

    folder: Path

    def run(self, block: str) -> str:
        """What it printed. Raises `AssertionError` with all of it when it fails."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SERINUS_")}
        environment |= {"KUBECONFIG": str(self.folder / "kubeconfig"), "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        command = ("bash", "-c", f"set -euo pipefail\n{block}")
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def blocks(document: Path = DOCUMENT) -> Blocks:
    """Those of the document. Raises `TypeError` when there are more or fewer than have a name."""
    found = [one for one in BLOCK.findall(document.read_text(encoding="utf-8")) if MARK in one]
    plain = ["\n".join(line for line in one.splitlines() if not line.startswith("make ")) for one in found]
    return Blocks(*(one for one in plain if one.replace(MARK, "").strip()))


def reader(cluster: Kube, folder: Path) -> Reader:
    """Made in an empty `folder`."""
    for name in _COPIED:
        shutil.copytree(ROOT / name, folder / name)
    config = folder / "kubeconfig"
    config.write_text(cluster.run("config", "view", "--raw", "--flatten"), encoding="utf-8")
    return Reader(folder)
