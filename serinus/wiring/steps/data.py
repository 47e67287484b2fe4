"""Steps from the raw log to a checked training set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from serinus.core.card import Kind
from serinus.core.errors import Conflict, DataError, ProblemCodeError
from serinus.core.verdict import Check, warnings
from serinus.features.assemble import assemble
from serinus.features.dataset import Requests
from serinus.features.keys import IdKinds
from serinus.features.recorded import checked
from serinus.replay.recording import CONTEXT, record, write_recording
from serinus.training.baselines import baseline_scores
from serinus.training.dataset import SPLITS, TrainingSet, write_training_set
from serinus.validation.source import read_table
from serinus.wiring.adapters import feature_store, tracker
from serinus.wiring.definition import require_same
from serinus.wiring.made_of import content_hash
from serinus.wiring.project import LoadedProblem, Project
from serinus.wiring.shared import WrittenBy, feature_sources, recordings
from serinus.wiring.step import StepContext, step

SNAPSHOT, LINEAGE, CHECKS = "snapshot.json", "lineage.json", "checks.json"
Read = Callable[..., pd.DataFrame]


def prepare(problem: str, job: str, raw: Path, submitted: str = "") -> None:
    """Reads the raw log into `raw` and opens the run in the registry.

    `submitted` is the problem's `definition` where the run was asked for; raises `Conflict` when it is another here.
    """
    with step("prepare", problem, job) as context:
        require_same(context.project, context.problem, submitted)
        run_id = tracker(context.project).open_run(problem, context.run, {})
        _prepare(context, raw, run_id)


def read_raw(problem: str, job: str, raw: Path) -> None:
    """`prepare` without a run in the registry."""
    with step("prepare", problem, job) as context:
        _prepare(context, raw, "")


def _prepare(context: StepContext, raw: Path, run_id: str) -> None:
    """The source is an input like any other, but known only when the card is read."""
    context.facts.update(read_source(context.problem, raw, run_id))
    context.reads["data.source"] = str(context.problem.source)
    context.made_of["input data.source"] = context.facts["snapshot_hash"]


def read_source(problem: LoadedProblem, raw: Path, run_id: str, read: Read = read_table) -> dict[str, Any]:
    """The raw rows as parquet, and beside them where they came from, with the hash of the source's bytes.

    Raises `Conflict` for a source that is written meanwhile: its rows would go under the hash of others.
    """
    card, source = problem.card, problem.source
    hashed = content_hash(source)
    frame = read(source, name=card.data.source)
    if content_hash(source) != hashed:
        raise Conflict(f"{card.data.source} was written while it was read", hint="start the run again when it is whole")
    raw.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(raw / "rows.parquet", index=False)
    snapshot = {
        "source": f"problems/{card.name}/{card.data.source}",
        "snapshot_hash": hashed,
        "snapshot_time": card.data.snapshot_time.isoformat(),
        "rows": len(frame),
        "mlflow_run": run_id,
    }
    write_json(raw / SNAPSHOT, snapshot)
    return snapshot


def check_raw(problem: str, job: str, raw: Path, accepted: Path, verdict: Path) -> None:
    """Judges the raw rows by the contract; rows that break a row rule go to the quarantine, the others on."""
    with step("contract_raw", problem, job, {"raw": raw}) as context:
        frame = _read_rows(raw / "rows.parquet")
        found = _judge(context, "raw", frame, verdict)
        accepted.mkdir(parents=True, exist_ok=True)
        found.accepted.to_parquet(accepted / "rows.parquet", index=False)
        write_json(accepted / SNAPSHOT, read_json(raw / SNAPSHOT) | {"data_warnings": len(warnings(found.checks))})


def build_features(problem: str, job: str, accepted: Path, tables: Path) -> None:
    """Cleans the accepted rows, builds the source rows of every view and applies the definitions to Feast."""
    with step("features", problem, job, {"accepted": accepted}) as context:
        snapshot = read_json(accepted / SNAPSHOT)
        cleaned = context.problem.code.clean(_read_rows(accepted / "rows.parquet"))
        tables.mkdir(parents=True, exist_ok=True)
        for name, table in cleaned.tables.items():
            with storable(f"table {name} of clean()"):
                table.to_parquet(tables / f"{name}.parquet", index=False)
        store = feature_store(context.project, problem)
        views = context.problem.code.views(cleaned.tables)
        with feature_sources(context.project.home, problem).writing(_mine(context, snapshot)):
            for name, rows in views.items():
                with storable(f"view {name} of views()"):
                    store.write_source(name, rows)
            store.apply()
            service = store.service_description(context.problem.card.data.feature_service)
        write_json(
            tables / SNAPSHOT, snapshot | {"service_hash": service.hash, "service_definitions": service.model_dump()}
        )
        context.facts.update(
            cleaning=[{"rule": rule, "rows": rows} for rule, rows in cleaned.rules],
            tables=[{"name": name, "rows": len(table)} for name, table in cleaned.tables.items()],
            views=[
                {"name": v.name, "entity": v.entity, "rows": len(views[v.name]), "columns": len(v.features)}
                for v in service.views
            ],
            service=service.name,
            service_hash=service.hash,
        )


@contextmanager
def storable(what: str) -> Iterator[None]:
    """Values that parquet has no type for are the problem's: raises `ProblemCodeError` that names whose they are."""
    try:
        yield
    except (pa.ArrowException, TypeError, ValueError) as fault:
        raise ProblemCodeError(f"{what} cannot be stored: {next(iter(str(fault).splitlines()), '')}") from fault


def build_training_set(problem: str, job: str, tables: Path, training_set: Path) -> None:
    """Draws requests and candidates, joins features as of each request's day, and writes the splits."""
    with step("training_set", problem, job, {"tables": tables}) as context:
        card, snapshot = context.problem.card, read_json(tables / SNAPSHOT)
        framing, definitions = card.framing, snapshot["service_definitions"]
        kinds = IdKinds.of(definitions, framing.entity, framing.unit, framing.item)
        asked = checked(context.problem.code.requests(read_tables(tables), card), card, kinds)
        ranking, context_names = card.framing.kind is Kind.RANKING, card.framing.request.context
        with feature_sources(context.project.home, problem).reading(context.run, snapshot["snapshot_hash"]):
            source = feature_store(context.project, problem).historical_source(card)
            batch = assemble(asked.requests, asked.rows, source, with_items=ranking, context_names=context_names)
        data = write_training_set(training_set, card, context.problem.code.inputs, asked, batch)
        facts = _training_facts(data, asked)
        with recordings(context.project.home, problem).writing(_mine(context, snapshot)):
            _record(context, asked, data, tables)
        totals = {"training_set_hash": data.content_hash(), "training_rows": sum(facts["rows"].values())}
        lineage = snapshot | totals
        write_json(training_set / LINEAGE, lineage)
        context.facts.update(facts, sampling_rate=card.data.negative_sampling_rate)
        context.facts["hash"] = lineage["training_set_hash"]


def _mine(context: StepContext, snapshot: dict[str, Any]) -> WrittenBy:
    return WrittenBy(run=context.run, snapshot_hash=snapshot["snapshot_hash"], code_hash=context.code_hash)


def _record(context: StepContext, asked: Requests, data: TrainingSet, tables: Path) -> None:
    """The test window as a recording: what a replay asks of the running service, and what happened afterwards."""
    card, test = context.problem.card, data.split("test")
    ids = test.rows.drop_duplicates("request")["request_id"]
    requests = asked.requests.set_index("request_id").loc[ids].reset_index()
    requests = requests.rename(columns={name: CONTEXT + name for name in card.framing.request.context})
    baselines = {
        one.name: baseline_scores(one, data.inputs(), test, card.data.seed)
        for one in card.data.baselines
        if card.framing.kind is Kind.RANKING
    }
    outcomes = context.problem.code.outcomes(read_tables(tables), asked, card)
    recording = record(requests, test.rows, outcomes, baselines)
    write_recording(recording_folder(context.project, card.name), recording)
    context.facts["recorded"] = {"requests": len(recording.requests), "outcomes": len(recording.outcomes)}


def recording_folder(project: Project, problem: str) -> Path:
    """Where the recorded requests of a problem are."""
    return recordings(project.home, problem).folder


def check_training_set(problem: str, job: str, training_set: Path, verdict: Path) -> None:
    """Judges the rows that models will see by the contract's second suite."""
    with step("contract_training", problem, job, {"training_set": training_set}) as context:
        _judge(context, "training", matrix_frame(TrainingSet(training_set)), verdict)


def matrix_frame(data: TrainingSet) -> pd.DataFrame:
    """Rows of all splits with their model inputs by name."""
    names = [one.name for one in data.inputs()]
    parts = []
    for name in SPLITS:
        split = data.split(name)
        rows = split.rows[["request_id", "item", "label", "value"]].reset_index(drop=True)
        parts.append(pd.concat([rows.assign(split=name), pd.DataFrame(split.matrix, columns=names)], axis=1))
    return pd.concat(parts, ignore_index=True)


def _judge(context: StepContext, suite: str, frame: pd.DataFrame, verdict: Path) -> Any:  # noqa: ANN401
    from serinus.validation.contract import parse_contract
    from serinus.validation.run import validate

    card = context.problem.card
    where = f"problems/{card.name}/{card.data.contract}"
    contract = parse_contract(context.problem.contract(), where=where)
    found = validate(contract.suites[suite], frame, snapshot_time=card.data.snapshot_time)
    verdict.mkdir(parents=True, exist_ok=True)
    checks = [check.model_dump(mode="json") for check in found.checks]
    write_json(verdict / CHECKS, checks)
    found.write_quarantine(verdict / "quarantine.parquet")
    kept = context.journal.folder / f"quarantine_{suite}.parquet"
    found.write_quarantine(kept)
    context.facts.update(
        where=f"{where}, suite {suite}",
        checks=checks,
        accepted=len(found.accepted),
        quarantined=len(found.quarantined),
        quarantine=str(kept.relative_to(context.project.home)),
    )
    found.require(f"{card.name}: {card.data.source if suite == 'raw' else 'training set'}")
    return found


def warnings_in(verdict: Path) -> int:
    """How many warnings a verdict artifact holds. Raises `DataError` when nothing was judged."""
    if not (verdict / CHECKS).is_file():
        raise DataError("the training set has no verdict", cause=f"{verdict / CHECKS} is missing")
    document = json.loads((verdict / CHECKS).read_text(encoding="utf-8"))
    return len(warnings([Check.model_validate(one) for one in document]))


def _training_facts(data: TrainingSet, asked: Requests) -> dict[str, Any]:
    facts: dict[str, Any] = {"requests": {}, "rows": {}, "positives": {}, "asked": len(asked.requests)}
    for name in SPLITS:
        split = data.split(name)
        facts["requests"][name] = int(split.rows["request_id"].nunique())
        facts["rows"][name] = len(split.rows)
        facts["positives"][name] = int(split.labels.sum())
    facts["columns"] = len(data.inputs())
    return facts


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The cleaned tables of a `tables` artifact."""
    return {path.stem: _read_rows(path) for path in sorted(folder.glob("*.parquet"))}


def _read_rows(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    return frame


def write_json(path: Path, value: object) -> None:
    """A small file inside an artifact."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """An object that `write_json` wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
