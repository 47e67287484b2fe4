"""`serinus pipeline run`: the pipeline on this machine; what talks to a backend is in `serinus.cli.submit`."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text

from serinus.cli import submit
from serinus.cli.output import command, err, out, require_name, show_error, show_json, show_table
from serinus.core.card import asked_candidates
from serinus.core.errors import SerinusError
from serinus.core.metric import family_of, of_family
from serinus.core.names import ServiceRef
from serinus.core.run import RunRecord, StepError
from serinus.core.verdict import Check, warnings
from serinus.wiring.abandoned import close_cut_off
from serinus.wiring.journal import Journal
from serinus.wiring.project import open_project
from serinus.wiring.resume import Resumable
from serinus.wiring.services import require_free
from serinus.wiring.shared import turn

if TYPE_CHECKING:
    from pipelines.local import FailedTask

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
REGISTER = "chosen"


@app.command()
@command
def run(
    problem: str,
    register: Annotated[
        str, typer.Option(help="Candidates to register: names, or `chosen`; separated by commas. [default: chosen]")
    ] = "",
    service: submit.Deploys = "",
    resume: Annotated[str, typer.Option(help="Name of an interrupted run to take up again.")] = "",
    name: Annotated[str, typer.Option(help="Name of the run; made from the time when not given.")] = "",
    as_json: Json = False,
) -> int:
    """Runs the whole training pipeline here; exit code 3 when a contract or gate refuses."""
    from pipelines.local import LocalRun, run_local

    project = open_project()
    loaded = project.problem(problem)
    asked_candidates(register or REGISTER, loaded.card)
    require_free(project, ServiceRef.parse(service or problem), problem)
    run_name = resume or name or f"{problem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    require_name("a run", run_name)
    for cut in close_cut_off(project, problem, but=run_name):
        err.print(f"[dim]run {cut} was cut off; it is closed in MLflow as killed[/]", soft_wrap=True)
    journal = Journal(project.home, problem, run_name)
    resumable = Resumable(project, loaded, journal)
    began = time.perf_counter()
    if resume:
        resumable.known()  # before the turn is asked for, which makes folders
    with turn(project.home, problem, run_name):
        if resume:
            file, anew = resumable.take_up(register, service)
        else:
            file, anew = resumable.begin(register or REGISTER, service), {}
        for step, why in anew.items():
            err.print(f"made anew: {step} ({escape(why)})", soft_wrap=True)
        err.print(f"run {run_name} (interrupted? `serinus pipeline run {problem} --resume {run_name}`)", soft_wrap=True)
        kept = file.kept(loaded.card)
        local = LocalRun(loaded.card, run_name, file.register_, file.ref, project.root, project.home, kept)
        with _Progress(journal) as progress:
            failed = run_local(local, progress.event)
    record = journal.read()
    if as_json:
        document = _document(journal, record, failed is None, time.perf_counter() - began)
        show_json(document | {"made_anew": anew})
    else:
        _summary(journal, record, time.perf_counter() - began)
    return _fail(journal, record, failed) if failed else 0


app.command()(submit.submit)
app.command()(submit.watch)


class _Progress:
    """A line a step, as it goes. On a terminal the running step has a spinner; in a log each end is one line."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._shown: set[str] = {record.name for record in journal.read().steps}
        self._live = Live(console=err, refresh_per_second=8, transient=True)

    def __enter__(self) -> _Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._show_finished()

    def event(self, task: str, state: str) -> None:
        """Called by the local runner."""
        if state == "started":
            self._live.update(Group(Spinner("dots", Text(task))))
            return
        self._live.update(Text(""))
        self._show_finished()

    def _show_finished(self) -> None:
        for record in self._journal.read().steps:
            if record.name in self._shown:
                continue
            self._shown.add(record.name)
            mark = "[green]✓[/]" if record.status == "ok" else "[red]✗[/]"
            fact = escape(_fact(record.name, record.facts))
            err.print(f"{mark} {record.name:<18} {record.seconds:6.1f} s  [dim]{fact}[/]", soft_wrap=True)


def _fact(name: str, facts: dict[str, Any]) -> str:
    """The one figure of a step that a person wants to see pass by."""
    if name == "prepare":
        return f"{facts.get('rows', 0):,} rows of {facts.get('source', '')}"
    if name.startswith("contract"):
        failed = sum(check["outcome"] != "pass" for check in facts.get("checks", []))
        checks, rows = len(facts.get("checks", [])), facts.get("quarantined", 0)
        return f"{checks} checks, {failed} not passed, {rows:,} rows in quarantine"
    if name == "features":
        return ", ".join(f"{view['name']} {view['rows']:,}" for view in facts.get("views", []))
    if name == "training_set":
        return ", ".join(f"{split} {rows:,} rows" for split, rows in facts.get("rows", {}).items())
    if name.startswith("train_"):
        return f"fit in {facts.get('fit_seconds', 0):.1f} s, bundle {str(facts.get('bundle_hash', ''))[:12]}"
    if name == "evaluate":
        return f"chosen: {facts.get('evaluation', {}).get('chosen', '')}"
    if name == "gates":
        return "; ".join(_gates(candidate, checks) for candidate, checks in facts.get("by_candidate", {}).items())
    return f"version {facts['version']}" if "version" in facts else ""


def _gates(candidate: str, raw: list[dict[str, Any]]) -> str:
    checks = [Check.model_validate(one) for one in raw]
    bad = [check.name for check in checks if not check.holds]
    return f"{candidate} {len(checks)} gates" + (f", not passed: {', '.join(bad)}" if bad else "")


def _summary(journal: Journal, record: RunRecord, seconds: float) -> None:
    evaluation = record.facts("evaluate").get("evaluation")
    if evaluation:
        show_models(evaluation)
    imports = sum(step.import_seconds for step in record.steps)
    out.print(f"{seconds:.0f} s, of which starting processes and importing libraries {imports:.0f} s")
    registered = record.facts("register")
    for one in registered.get("versions", []):
        out.print(
            f"[green]registered[/] {registered['model']} version {one['version']} ({one['candidate']})  "
            f"bundle {one['bundle_hash'][:12]}  {', '.join(one['aliases'])}"
        )
        for check in warnings(record.gates().get(one["candidate"], [])):
            out.print(f"  [yellow]warning[/] {escape(check.line())}", soft_wrap=True)
    for label, path in _links(journal).items():
        out.print(f"{label}: {path}", soft_wrap=True)


# Metrics by their families; k is that of the metric.
_LABELS = {
    "hits": "hits@{k}",
    "auc": "AUC",
    "average_precision": "AP",
    "normalized_entropy": "NE",
    "calibration_ratio": "calib.",
}


def show_models(evaluation: dict[str, Any]) -> None:
    """Candidates and baselines on the test window, for people."""
    found = [(of_family(family, evaluation["models"][0]["metrics"]), label) for family, label in _LABELS.items()]
    labels = {key: label.format(k=family_of(key)[1]) for key, label in found if key}
    rows = [
        (
            model["name"] + (" *" if model["name"] == evaluation["chosen"] else ""),
            *(f"{model['metrics'][key]:.4f}" for key in labels),
            f"{model['latency']['p50_ms']:.2f}",
        )
        for model in evaluation["models"]
    ]
    rows += [
        (name, *(f"{metrics[key]:.4f}" if key in metrics else "" for key in labels), "")
        for name, metrics in evaluation["baselines"].items()
    ]
    columns = ("model", *labels.values(), "p50 ms")
    show_table(f"test window {evaluation['window']} (* chosen)", columns, rows, right=columns[1:])
    out.print(f"[dim]{escape(evaluation['chosen_because'])}[/]", soft_wrap=True)


def _links(journal: Journal) -> dict[str, Path]:
    found = {
        "report": journal.folder / "report.html",
        "summary": journal.folder / "summary.json",
        "log": journal.folder / "pipeline.log",
    }
    return {label: path for label, path in found.items() if path.exists()}


def _document(journal: Journal, record: RunRecord, succeeded: bool, seconds: float) -> dict[str, Any]:
    failure = record.failure()
    return {
        "run": record.pipeline_run,
        "succeeded": succeeded,
        "seconds": round(seconds, 1),
        "steps": [{"name": s.name, "status": s.status, "seconds": round(s.seconds, 2)} for s in record.steps],
        "versions": record.facts("register").get("versions", []),
        "ids": dict(record.ids),
        "error": failure.error.model_dump() if failure and failure.error else None,
        "files": {label: str(path) for label, path in _links(journal).items()},
    }


def _fail(journal: Journal, record: RunRecord, failed: FailedTask) -> int:
    """The reason of the first failed step; of a process that died and could record none, its last lines."""
    failure = record.failure()
    error = (
        failure.error
        if failure and failure.error
        else StepError(
            error="SerinusError",
            headline=f"the process of {failed.name} died",
            cause="\n".join(failed.lines),
            hint=f"the whole log: {journal.folder / 'pipeline.log'}",
        )
    )
    fault = SerinusError(error.headline, cause=error.cause, hint=error.hint)
    show_error(fault)
    return error.exit_code
