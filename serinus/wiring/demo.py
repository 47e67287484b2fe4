"""`make demo`: pipeline, lookup, serving, a replay of October's first visits, a trace, and three rollouts that decide.

One report, one summary.
Invariant: everything it prints or writes comes from the run it made; interrupted, it goes on where it was, and a change
of code or data starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from serinus.core.errors import Conflict, SerinusError
from serinus.core.names import ServiceRef
from serinus.core.run import StepError, StepRecord
from serinus.files import DISK
from serinus.report import write
from serinus.wiring.demo_servers import Servers, running
from serinus.wiring.interrupts import INTERRUPTED, guarded
from serinus.wiring.journal import Journal
from serinus.wiring.lifeline import held
from serinus.wiring.project import Project, open_project
from serinus.wiring.replay import PLAN, REPLAYS, RESULT
from serinus.wiring.services import events_folder, places
from serinus.wiring.summary import summarize

PROBLEM = "retail"
SERVICE = ServiceRef.parse(PROBLEM)
LOOKUP = ("--customer", "12347", "--items", "85123A,22423")
VISITS = 300
# The first serves at once, the second is rolled out against it.
REGISTER = "linear,chosen"
SOURCES = ("serinus", "components", "pipelines", "feature_repo", "problems")


@dataclass(frozen=True)
class Demo:
    """One demo under way: its run, and when it began."""

    project: Project
    run: str
    started: float
    install: float

    @property
    def folder(self) -> Path:
        """Where report and summary are."""
        return self.project.home / "demo"

    @property
    def journal(self) -> Journal:
        """Of the run; the demo's own steps are added to it."""
        return Journal(self.project.home, PROBLEM, self.run)

    def step(self, name: str, work: Callable[[], tuple[int, dict[str, Any]]]) -> int:
        """Runs a step of the demo and records it, also one that raises; its exit code."""
        began = time.perf_counter()
        try:
            code, facts = work()
        except SerinusError as fault:
            self.record(name, time.perf_counter() - began, {}, failed=True, error=fault)
            raise
        self.record(name, time.perf_counter() - began, facts, failed=bool(code))
        return code

    def record(
        self,
        name: str,
        seconds: float,
        facts: dict[str, Any],
        *,
        failed: bool = False,
        error: SerinusError | None = None,
    ) -> None:
        """A step that has just ended."""
        at = datetime.fromtimestamp(time.time() - seconds, UTC)
        status: Literal["ok", "failed"] = "failed" if failed else "ok"
        told = StepError.model_validate(error.as_dict()) if error else None
        self.journal.write(
            StepRecord(name=name, status=status, started_at=at, seconds=seconds, facts=facts, error=told)
        )

    def publish(self) -> None:
        """Report and summary of everything so far."""
        record = self.journal.read()
        if not record.steps:
            return
        card = self.project.problem(PROBLEM).card
        write(record, self.folder / "report.html", card)
        summary = summarize(record, card)
        summary["stages"].insert(0, {"name": "install", "seconds": round(self.install, 1)})
        summary["elapsed_s"] = round(time.time() - self.started, 1)
        DISK.replace(self.folder / "summary.json", json.dumps(summary, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Runs the demo; the exit code of the first part that fails. Interrupted, it goes on when it is started again."""
    code = guarded(lambda: _main(arguments))
    if code == INTERRUPTED:
        sys.stderr.write("`make demo` goes on where it was\n")
    return code


def _main(arguments: list[str]) -> int:
    parser = ArgumentParser(prog="make demo")
    parser.add_argument("--started", type=float, default=time.time(), help="when `make demo` began, epoch seconds")
    started = parser.parse_args(arguments).started
    project = open_project()
    try:
        with held(project.home / "demo" / ".lock", Conflict("another demo runs in this home")):
            return _demo(project, started)
    except Conflict as fault:
        sys.stderr.write(f"{fault.headline}\n")
        return fault.exit_code


def _demo(project: Project, started: float) -> int:
    run, resumed = _run_name(project, project.home / "demo")
    demo = Demo(project, run, started, max(time.time() - started, 0.0))
    try:
        if not resumed:
            _set_aside(project, run)
        named = ("--resume" if resumed else "--name", run)
        code = _serinus("pipeline", "run", PROBLEM, "--register", REGISTER, *named)
        code = code or demo.step("lookup", lambda: (_serinus("features", "lookup", PROBLEM, *LOOKUP), {}))
        code = code or _serve_and_replay(demo)
        code = code or demo.step("rollouts", lambda: (0, _roll_out(demo)))
        code = code or _serinus("rollout", "history", PROBLEM)
    except SerinusError as fault:
        sys.stderr.write(f"{fault.headline}\n{fault.cause}\n")
        code = fault.exit_code
    demo.publish()
    if not code:
        (demo.folder / "state.json").unlink(missing_ok=True)
        sys.stdout.write(f"report: {demo.folder / 'report.html'}\nsummary: {demo.folder / 'summary.json'}\n")
    return code


def _set_aside(project: Project, run: str) -> None:
    """An earlier demo's service, with its events and rollouts: this demo starts with a service of its own."""
    for path in (places(project, SERVICE).folder, events_folder(project, SERVICE)):
        if path.exists():
            DISK.move(path, project.home / "before" / run / path.relative_to(project.home))


def _roll_out(demo: Demo) -> dict[str, Any]:
    """See `serinus.wiring.demo_rollouts`."""
    from serinus.wiring.demo_rollouts import DemoRollouts

    card = demo.project.problem(PROBLEM).card
    return DemoRollouts(demo.project, SERVICE, card, demo.journal.read(), demo.folder / "rollouts").run()


def _serve_and_replay(demo: Demo) -> int:
    """The registered version as a service, real visits against it, and one of them traced back."""
    sys.stdout.write(f"\n$ serinus serve {PROBLEM} & serinus collect {PROBLEM} &\n")
    sys.stdout.flush()
    with running(SERVICE, demo.folder) as servers:
        demo.record("serve", servers.seconds, {"endpoint": servers.endpoint, "collector": servers.collector})
        sys.stdout.write(f"both answer after {servers.seconds:.1f} s\n")
        result: dict[str, Any] = {}
        code = demo.step("replay", lambda: _replay(demo, servers, result))
    return code or demo.step("trace", lambda: (_serinus("trace", PROBLEM, result["example"]), {}))


def _replay(demo: Demo, servers: Servers, result: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """`serinus replay`; an interrupted one goes on."""
    name = f"{demo.run}-october"
    folder = demo.project.home / REPLAYS / name
    code = _serinus(
        *("replay", PROBLEM, "--visits", str(VISITS), "--passes", "1"),
        *("--endpoint", servers.endpoint, "--collector", servers.collector),
        *("--resume" if (folder / PLAN).exists() else "--name", name),
    )
    if (folder / RESULT).exists():
        result.update(json.loads((folder / RESULT).read_text(encoding="utf-8")))
    return code, result


def _serinus(*arguments: str) -> int:
    """A command as a user would give it."""
    sys.stdout.write(f"\n$ serinus {' '.join(arguments)}\n")
    sys.stdout.flush()
    with subprocess.Popen([sys.executable, "-m", "serinus", *arguments]) as command:
        try:
            return command.wait()
        except BaseException:
            command.terminate()  # it ends in order: the way out of the block waits for that
            command.wait()
            raise


def _run_name(project: Project, folder: Path) -> tuple[str, bool]:
    """The unfinished run of the same code and data, or a new one."""
    state, code = folder / "state.json", _fingerprint(project.root)
    if state.exists():
        known = json.loads(state.read_text(encoding="utf-8"))
        if known["code"] == code and (project.home / "runs" / known["run"]).is_dir():
            return str(known["run"]), True
    run = f"demo-{code[:8]}-{int(time.time())}"
    DISK.replace(state, json.dumps({"run": run, "code": code}))
    return run, False


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".yaml", ".parquet"):
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
