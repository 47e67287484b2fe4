"""The workflow for kind is a workflow: actionlint, from the bed's programs, finds nothing in it."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.bed.places import REPOSITORY, places
from tests.cluster.bed.plan import Plan

pytestmark = [pytest.mark.cluster, pytest.mark.bed]


def test_actionlint_finds_nothing() -> None:
    program = Plan.read(places().run).programs["actionlint"]
    files = sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml"))
    assert files
    done = subprocess.run([program, "-no-color", *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
