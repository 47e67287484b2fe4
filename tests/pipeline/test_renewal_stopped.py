"""Runs of the second problem that do not come to their end: a file of its own, for these take as long as the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from renewal_copy import new_project

pytestmark = pytest.mark.slow

FUTURE = "from __future__ import annotations\n"
DYING = """
import os, sys
if "_KFP_RUNTIME" in os.environ:
    sys.stderr.write("out of luck\\n"), sys.stderr.flush(), os.abort()
"""


def test_a_broken_contract_stops_before_features_and_is_reported(tmp_path: Path) -> None:
    fresh = new_project(tmp_path)
    fresh.edit("problems/renewal/data/accounts.csv", "account,month", "account,moon")
    done = fresh.run("pipeline", "run", "renewal", "--name", "broken", code=3)
    error = next(line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "column month" in error
    steps = {path.stem for path in (fresh.home / "runs/broken/steps").iterdir()}
    assert steps == {"prepare", "contract_raw", "report"}
    assert "column month" in (fresh.home / "runs/broken/report.html").read_text()


def test_a_step_whose_process_dies_is_told_by_its_name_and_last_words(tmp_path: Path) -> None:
    fresh = new_project(tmp_path)
    fresh.edit("problems/renewal/dataset.py", FUTURE, FUTURE + DYING)
    done = fresh.run("pipeline", "run", "renewal", "--name", "dead", code=1)
    error = [line.strip() for line in done.stderr[done.stderr.index("error:") :].splitlines()]
    assert error[0] == "error: the process of build-features died"
    assert "out of luck" in error, "its last words are shown"
    assert "report" in {path.stem for path in (fresh.home / "runs/dead/steps").iterdir()}


def test_an_interrupted_run_is_taken_up_where_it_was(tmp_path: Path) -> None:
    fresh = new_project(tmp_path)
    started = subprocess.Popen(
        fresh.command("pipeline", "run", "renewal", "--name", "cut"), cwd=fresh.empty, env=fresh.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A test run in the background of a shell inherits an ignored SIGINT; a user's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    # The step after it has ended, so this one is surely cached; the cut falls into, or right after, the later one.
    marker, later = (fresh.home / f"runs/cut/steps/{step}.json" for step in ("features", "training_set"))
    deadline = time.monotonic() + 120
    while not later.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130, error
    before = marker.stat().st_mtime_ns
    done = fresh.json("pipeline", "run", "renewal", "--resume", "cut")
    assert done["succeeded"] is True
    assert marker.stat().st_mtime_ns == before, "a finished step ran again"
    assert done["versions"][0]["version"] == 1
