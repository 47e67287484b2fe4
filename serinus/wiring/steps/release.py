"""Steps from a judged candidate to a wanted version, and the report that always ends a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serinus.core.endings import ended
from serinus.core.errors import SerinusError
from serinus.core.names import ModelRef, ServiceRef, feast_project
from serinus.core.ports import Dataset, ModelVersion
from serinus.core.run import RunRecord
from serinus.core.verdict import Check, warnings
from serinus.features.snapshots import counts
from serinus.files import DISK
from serinus.model.bundle import read_manifest
from serinus.training.results import Evaluation
from serinus.wiring.adapters import bundle_store, deployer, feature_clock, registry, tracker
from serinus.wiring.project import Project, open_project
from serinus.wiring.services import require_free
from serinus.wiring.shared import feature_sources
from serinus.wiring.step import StepContext, step
from serinus.wiring.steps.data import LINEAGE, read_json
from serinus.wiring.steps.models import TRAINED, read_evaluation, wanted_candidates
from serinus.wiring.warned import remember


def register(problem: str, job: str, wanted: str, models: Mapping[str, Path], evaluation: Path, verdict: Path) -> int:
    """Stores and registers the wanted candidates; the last one becomes challenger. Returns its version."""
    reads = {**models, "evaluation": evaluation, "gates": verdict}
    with step("register", problem, job, reads, {"register": wanted}) as context:
        found, lineage = read_evaluation(evaluation), read_json(evaluation / LINEAGE)
        folders = {read_manifest(folder / "bundle").candidate: folder for folder in models.values()}
        run_id = tracker(context.project).open_run(problem, context.run, {})
        gates = read_json(verdict / "gates.json")
        versions = []
        for name in wanted_candidates(wanted, context.problem.card, found):
            tags = _tags(context, read_json(folders[name] / TRAINED), lineage, gates[name])
            versions.append(_register_one(context, run_id, name, folders[name] / "bundle", tags))
            remember(context.project, versions[-1])
        registry(context.project).challenge(problem, versions[-1].version)
        _log_run(context, run_id, found, lineage)
        context.facts.update(
            model=problem,
            version=versions[-1].version,
            bundle_hash=versions[-1].tags["serinus.bundle_hash"],
            versions=[_version_facts(one, versions[-1].version) for one in versions],
        )
        return versions[-1].version


def materialize(problem: str, job: str, version: int) -> None:
    """Loads the online store as of the snapshot's own time, so that the version can be served."""
    with step("materialize", problem, job, parameters={"version": str(version)}) as context:
        as_of = context.problem.card.data.snapshot_time
        with feature_sources(context.project.home, problem).reading(context.run):
            context.facts.update(version=version, **materialize_as_of(context.project, problem, as_of))


def materialize_as_of(project: Project, problem: str, as_of: datetime, online: str = "") -> dict[str, Any]:
    """The online store with the latest row of every view not later than the midnight before `as_of`."""
    snapshot = feature_clock(project, problem, online).move_to(as_of)
    views = [{"name": name, "rows": rows} for name, rows in counts(snapshot, feast_project(problem)).items()]
    return {"as_of": as_of.isoformat(), "views": views}


def deploy(problem: str, job: str, version: int, service: str) -> None:
    """Says that the version is wanted in a service of the problem, which is made when there is none."""
    with (
        step("deploy", problem, job, parameters={"version": str(version), "service": service}) as context,
        # What was loaded for it must still be there: another run may have loaded its own since.
        feature_sources(context.project.home, problem).reading(context.run),
    ):
        ref, versions, deployed = ServiceRef.parse(service), registry(context.project), deployer(context.project)
        require_free(context.project, ref, problem)
        found = versions.version(problem, str(version))
        if deployed.service(ref) is None:
            # The first of those registered together serves at once; the last one is rolled out against it.
            together = [one for one in versions.versions(problem) if one.run_id == found.run_id]
            first = min(together, key=lambda one: one.version)
            deployed.want(ref, ModelRef(problem, first.version), first.storage_uri)
        deployed.want(ref, ModelRef(problem, found.version), found.storage_uri)
        context.facts.update(service=str(ref), wanted_version=found.version, storage_uri=found.storage_uri)


def report(problem: str, job: str, html: Path, summary: Path) -> None:
    """Builds the run's report and summary from the journal; closes the run in the registry if it was opened.

    It is the run's last task, whatever happened before: a step that has no record by now will have none.
    """
    with step("report", problem, job) as context:
        from serinus.report import write
        from serinus.wiring.summary import summarize

        card = context.problem.card
        kinds = [one.kind for one in card.data.candidates]
        record = ended(context.journal.read(), kinds, datetime.now(UTC))
        write(record, html, card)
        document = summarize(record, card)
        text = json.dumps(document, indent=1) + "\n"
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(text, encoding="utf-8")
        write(record, context.journal.folder / "report.html", card)
        DISK.replace(context.journal.folder / "summary.json", text)
        context.facts["closed"] = _close(context, record)


def _close(context: StepContext, record: RunRecord) -> bool:
    """The report exists by now; a registry that does not answer must not take it away."""
    failure = record.failure()
    try:
        runs = tracker(context.project)
        run_id = runs.find_run(context.problem.card.name, context.run)
        if run_id is None:
            return False
        runs.log_files(run_id, context.journal.folder / "report.html", "report")
        runs.close_run(run_id, failed=failure.error.headline if failure and failure.error else None)
    except SerinusError:
        return False
    return True


def _register_one(context: StepContext, run_id: str, name: str, bundle: Path, tags: Mapping[str, str]) -> ModelVersion:
    problem = context.problem.card.name
    uri = bundle_store(context.project).put(problem, bundle)
    tracker(context.project).log_files(run_id, bundle, f"bundle/{name}")
    return registry(context.project).register(problem, run_id=run_id, storage_uri=uri, tags=tags)


def _tags(
    context: StepContext, trained: Mapping[str, Any], lineage: Mapping[str, Any], gates: list[dict[str, Any]]
) -> dict[str, str]:
    """The id chain, every gate's outcome, and how many warnings data and gates raised."""
    checks = [Check.model_validate(one) for one in gates]
    failed = ", ".join(check.name for check in warnings(checks))
    return {
        "serinus.candidate": trained["candidate"],
        "serinus.bundle_hash": trained["bundle_hash"],
        "serinus.pipeline_run": context.run,
        "serinus.snapshot_hash": lineage["snapshot_hash"],
        "serinus.training_set_hash": lineage["training_set_hash"],
        "serinus.feature_service": context.problem.card.data.feature_service,
        "serinus.service_hash": lineage["service_hash"],
        "serinus.data_warnings": str(trained["data_warnings"]),
        "serinus.gate_warnings": str(len(warnings(checks))),
        **({"serinus.failed_warnings": failed} if failed else {}),
        **{f"serinus.gate.{check.name}": check.outcome.value for check in checks},
    }


def _log_run(context: StepContext, run_id: str, found: Evaluation, lineage: Mapping[str, Any]) -> None:
    runs, card = tracker(context.project), context.problem.card
    metrics = {f"{one.name}.{metric}": value for one in found.models for metric, value in one.metrics.items()}
    params = {"chosen": found.chosen, "feature_service": card.data.feature_service, "seed": str(card.data.seed)}
    runs.log(run_id, params=params, metrics=metrics)
    source = lineage["source"]
    runs.log_datasets(
        run_id,
        [
            Dataset("raw", source, lineage["snapshot_hash"], "source", lineage["rows"]),
            Dataset("training_set", source, lineage["training_set_hash"], "training", lineage["training_rows"]),
        ],
    )


def _version_facts(version: ModelVersion, challenger: int) -> dict[str, Any]:
    aliases = [*version.aliases, *(["challenger"] if version.version == challenger else [])]
    return {
        "candidate": version.tags["serinus.candidate"],
        "version": version.version,
        "bundle_hash": version.tags["serinus.bundle_hash"],
        "storage_uri": version.storage_uri,
        "aliases": sorted(set(aliases)),
        "warnings": version.warnings,
    }


def features_as_of(problem: str, as_of: datetime | None, online: str = "") -> dict[str, Any]:
    """`serinus features materialize`: the same function as the pipeline's step, outside a run."""
    project = open_project()
    moment = as_of or project.problem(problem).card.data.snapshot_time
    return materialize_as_of(project, problem, moment, online)
