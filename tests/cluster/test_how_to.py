"""The commands of docs/how-to/kubernetes.md, as they stand there, one block after the other.

On the bed alone: on kind one port of the node is there for one gateway at a time, and the first service has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serinus.client.bucket import bucket_of
from serinus.core.rollout.words import Arm
from tests.cluster.dump import opened
from tests.cluster.first_manifests import SALT, committed, revision_names, route
from tests.cluster.kube import Kube, wait_until
from tests.cluster.trained import ROOT, trained
from tests.docs_commands import BLOCK

pytestmark = [pytest.mark.cluster, pytest.mark.bed, pytest.mark.timeout(900)]
DOCUMENT = ROOT / "docs" / "how-to" / "kubernetes.md"
NAMESPACE = "first"
UNIT = "12348"
BUCKET = bucket_of(SALT, UNIT)


@pytest.fixture
def reader(cluster: Kube, tmp_path: Path) -> Iterator[Path]:
    """A folder as a reader has it: the project, a finished home, and a KUBECONFIG that the commands may change."""
    home = trained().home
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "modules"))
    for name in ("serinus.toml", "problems", "feature_repo"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".serinus").symlink_to(home)
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.run("config", "view", "--raw", "--flatten"), encoding="utf-8")
    assert cluster.find("namespace", NAMESPACE) is None, f"the how-to makes namespace {NAMESPACE}, which is there"
    with opened(NAMESPACE):
        yield tmp_path
    cluster.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", seconds=180)


def blocks() -> list[str]:
    """What needs a cluster, without what `make` does: CI runs that by itself."""
    found = [one for one in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")) if "# needs a cluster" in one]
    plain = ["\n".join(line for line in one.splitlines() if not line.startswith("make ")) for one in found]
    return [one for one in plain if one.replace("# needs a cluster", "").strip()]


def run(block: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERINUS_")}
    environment |= {"KUBECONFIG": str(folder / "kubeconfig"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    script = f"set -euo pipefail\n{block}"
    done = subprocess.run(("bash", "-c", script), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_commands_of_the_how_to_serve_ask_and_change_the_weights(reader: Path, cluster: Kube) -> None:
    stable, canary = revision_names(committed())
    assigned = canary if route([stable, canary]).assigned(BUCKET) is Arm.CANARY else stable
    found = blocks()
    ask, change, ask_again, end = found[-4:]
    assert [("curl" in one) for one in found] == [False] * (len(found) - 4) + [True, False, True, False]
    for block in found[:-4]:
        run(block, reader)
    assert f"x-serinus-bucket: {BUCKET:03d}" in ask
    assert UNIT in ask
    first = run(ask, reader)
    assert revision(first) == assigned
    assert json.loads(first)["predictions"][0]["flags"]["bucket"] == "ok"
    run(change, reader)

    def still_the_old_one() -> str | None:
        answered = revision(run(ask_again, reader))
        return None if answered == canary else f"answered by {answered}"

    wait_until("the second revision answers", still_the_old_one, 30.0)
    assert ".parquet" in run(end, reader)
    assert cluster.find("namespace", NAMESPACE) is None


def revision(answer: str) -> str:
    """Who answered."""
    return str(json.loads(answer)["predictions"][0]["revision"])
