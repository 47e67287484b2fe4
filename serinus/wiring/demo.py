"""`make demo`: the pipeline of problem retail and a lookup, with one report and one summary; resumable.

Invariant: everything it prints or writes comes from the run it made; interrupted, it goes on where it was, and a change
of code or data starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from serinus.wiring.journal import write_atomically
from serinus.wiring.project import Project, open_project

PROBLEM = "retail"
LOOKUP = ("--customer", "12347", "--items", "85123A,22423")
SOURCES = ("serinus", "components", "pipelines", "feature_repo", "problems")


def main(arguments: list[str]) -> int:
    """Runs the demo; the pipeline's exit code when that fails."""
    parser = ArgumentParser(prog="make demo")
    parser.add_argument("--started", type=float, default=time.time(), help="when `make demo` began, epoch seconds")
    started = parser.parse_args(arguments).started
    project = open_project()
    folder = project.home / "demo"
    install = max(time.time() - started, 0.0)
    run, resumed = _run_name(project, folder)
    code = _serinus("pipeline", "run", PROBLEM, "--resume" if resumed else "--name", run)
    _publish(project, run, folder, {"started": started, "install": install})
    if code:
        return code
    looked = time.time()
    code = _serinus("features", "lookup", PROBLEM, *LOOKUP)
    _finish(folder, started, time.time() - looked)
    sys.stdout.write(f"report: {folder / 'report.html'}\nsummary: {folder / 'summary.json'}\n")
    return code


def _serinus(*arguments: str) -> int:
    """A command as a user would give it."""
    sys.stdout.write(f"\n$ serinus {' '.join(arguments)}\n")
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "serinus", *arguments], check=False).returncode


def _run_name(project: Project, folder: Path) -> tuple[str, bool]:
    """The unfinished run of the same code and data, or a new one."""
    state, code = folder / "state.json", _fingerprint(project.root)
    if state.exists():
        known = json.loads(state.read_text(encoding="utf-8"))
        if known["code"] == code and (project.home / "runs" / known["run"]).is_dir():
            return str(known["run"]), True
    run = f"demo-{code[:8]}-{int(time.time())}"
    write_atomically(state, json.dumps({"run": run, "code": code}))
    return run, False


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".yaml", ".parquet"):
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _publish(project: Project, run: str, folder: Path, times: dict[str, float]) -> None:
    """Report and summary of the run, at the place where later parts of the demo add to them."""
    made = project.home / "runs" / run
    if not (made / "summary.json").exists():
        return
    shutil.copy(made / "report.html", folder / "report.html")
    summary = json.loads((made / "summary.json").read_text(encoding="utf-8"))
    summary["stages"].insert(0, {"name": "install", "seconds": round(times["install"], 1)})
    summary["elapsed_s"] = round(time.time() - times["started"], 1)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def _finish(folder: Path, started: float, lookup: float) -> None:
    """Adds the lookup and the whole time; the demo is done, so the next one starts afresh."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["stages"].append({"name": "lookup", "seconds": round(lookup, 2)})
    summary["elapsed_s"] = round(time.time() - started, 1)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    (folder / "state.json").unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; `make demo` goes on where it was\n")
        sys.exit(130)
