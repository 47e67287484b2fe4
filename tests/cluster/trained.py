"""What the Job of the chart has trained, as a copy of the cluster's home; and our own commands on such a copy.

Invariant: the home on the claim is only read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tests.cluster.kube import Kube
from tests.cluster.manifests import ROOT, SERVICE, TOOLS

HOME = "/var/lib/serinus"
COPIED = (f"bundles/{SERVICE}", f"features/{SERVICE}", f"feast/{SERVICE}/registry.db", f"recordings/{SERVICE}")


@dataclass(frozen=True)
class Trained:
    """Bundles, their features, and requests that the pipeline has recorded."""

    home: Path

    def bundle(self, digest: str) -> Path:
        """Its folder."""
        return self.home / "bundles" / SERVICE / digest

    @property
    def recording(self) -> Path:
        """Of the requests."""
        return self.home / "recordings" / SERVICE


def fetched(kube: Kube, folder: Path) -> Trained:
    """The copy."""
    packed = kube.read(TOOLS, "tar", "-C", HOME, "-cf", "-", *COPIED)
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return Trained(folder)


def run_serinus(home: Path, *arguments: str, seconds: float = 120.0) -> str:
    """The output of a command of ours on a home. Raises `RuntimeError` with what it said."""
    environment = os.environ | {"SERINUS_HOME": str(home), "SERINUS_PROJECT": str(ROOT)}
    command = [sys.executable, "-m", "serinus", *arguments]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds
    )
    if done.returncode:
        raise RuntimeError(f"serinus {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
