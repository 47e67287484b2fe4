"""Two trained versions of problem retail, as a finished home has them, and what of it goes on the cluster's claim.

Invariant: the home is only read; a copy of what is needed is staged, and both the cluster and the embedded predictor
work with that copy. Where no home is finished, the ordinary command trains one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBLEM = "retail"
TRAIN_SECONDS = 900.0


@dataclass(frozen=True)
class Bundles:
    """Content hashes by version: the first served, and the chosen one."""

    digests: Mapping[int, str]


@dataclass(frozen=True)
class Trained:
    """A home with two versions, their features, and recorded requests."""

    home: Path
    bundles: Bundles

    def bundle(self, version: int) -> Path:
        """Its folder."""
        return self.home / "bundles" / PROBLEM / self.bundles.digests[version]

    @property
    def recording(self) -> Path:
        """Requests that were recorded by the pipeline."""
        return self.home / "recordings" / PROBLEM


def finished(home: Path) -> Trained:
    """Raises `FileNotFoundError` when no pipeline has finished there."""
    service = json.loads((home / "services" / f"{PROBLEM}.json").read_text(encoding="utf-8"))
    uris = {int(service["first_version"]): service["first_uri"], int(service["version"]): service["storage_uri"]}
    found = Trained(home, Bundles({version: uri.rpartition("/")[2] for version, uri in uris.items()}))
    for path in (*(found.bundle(version) for version in uris), found.recording, home / "features" / PROBLEM):
        if not path.is_dir():
            raise FileNotFoundError(path)
    return found


def trained() -> Trained:
    """That of SERINUS_HOME, else of `.serinus`; trained now when there is none."""
    home = Path(os.environ.get("SERINUS_HOME") or ROOT / ".serinus").resolve()
    try:
        return finished(home)
    except FileNotFoundError:
        run_serinus(home, "pipeline", "run", PROBLEM, seconds=TRAIN_SECONDS)
        return finished(home)


def staged(source: Trained, folder: Path) -> Trained:
    """A copy of the bundles and of what features are materialized from; recordings stay where they are."""
    for version in source.bundles.digests:
        shutil.copytree(source.bundle(version), Trained(folder, source.bundles).bundle(version))
    shutil.copytree(source.home / "features" / PROBLEM, folder / "features" / PROBLEM)
    registry = Path("feast") / PROBLEM / "registry.db"
    (folder / registry).parent.mkdir(parents=True)
    shutil.copy2(source.home / registry, folder / registry)
    return Trained(folder, source.bundles)


def archive(staged_home: Trained, path: Path) -> bytes:
    """The copy as a tar whose paths begin at the home."""
    with tarfile.open(path, "w") as tar:
        for name in ("bundles", "features", "feast"):
            tar.add(staged_home.home / name, arcname=name)
    return path.read_bytes()


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
