"""`serinus trace`: the chain of ids from one request back to the data that its model was made of.

Invariant: every link is read where it was written, the event log and the tags of the version; none is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from serinus.core.errors import NotFound, SerinusError, UsageError
from serinus.core.events import BESIDE, Stream
from serinus.core.names import ServiceRef
from serinus.evidence.log import EventLog
from serinus.evidence.plan import KpiPlan
from serinus.features.keys import TEXT, fault_of
from serinus.model.bundle import read_manifest
from serinus.wiring.adapters import bundle_store, registry
from serinus.wiring.evidence import event_log, reducer
from serinus.wiring.project import Project
from serinus.wiring.services import card_of
from serinus.wiring.serving import version_of

MOST_ITEMS_SHOWN = 10


def trace_request(project: Project, service: ServiceRef, request_id: str) -> dict[str, Any]:
    """Sections by name, each a mapping of facts or a list of them.

    Raises `NotFound` for an unknown request, `UsageError` for what can be no request id.
    """
    if fault_of(TEXT, request_id):
        raise UsageError(f"{request_id!r} is no request id", cause=fault_of(TEXT, request_id))
    card, log = card_of(project, service), event_log(project, service)
    exposures = _rows(log, Stream.EXPOSURES, request_id)
    if not exposures:
        raise NotFound(
            f"no exposure of request {request_id}", hint="a request shows up at most 0.2 s after it was answered"
        )
    beside = {stream: {row["id"]: row for row in _rows(log, stream, request_id)} for stream in BESIDE}
    found: dict[str, Any] = {
        "request": [_request(row, beside[Stream.SCORES].get(row["id"])) for row in exposures],
        "decision": [_decision(row) for row in beside[Stream.DECISIONS].values()],
    }
    versions = {row["id"]: row["version"] for row in exposures}
    found["inputs"] = [
        _fed(row, _input_names(project, card.name, versions[key]))
        for key, row in beside[Stream.INPUTS].items()
        if key in versions
    ]
    outcomes = _rows(log, Stream.OUTCOMES, request_id)
    found["outcomes"] = [
        {"name": o["name"], "item": o["item"], "value": o["value"], "at": _time(o["as_of"])} for o in outcomes
    ]
    found["kpis"] = _kpis(reducer(project, service, card).rows(), request_id, KpiPlan.of(card))
    found["model"] = [_model(project, card.name, version) for version in dict.fromkeys(versions.values())]
    return found


def _rows(log: EventLog, stream: Stream, request_id: str) -> list[dict[str, Any]]:
    """All rows of a request, each once."""
    found: dict[str, dict[str, Any]] = {}
    for segment in log.segments(stream):
        table: pa.Table = log.read(segment)
        for row in table.filter(pc.equal(table["request_id"], request_id)).to_pylist():
            found.setdefault(row["id"], row)
    return list(found.values())


def _request(row: dict[str, Any], scores: dict[str, Any] | None) -> dict[str, Any]:
    names = (
        "request_id", "revision", "version", "route", "forced_arm", "entity", "unit", "bucket", "bucket_check",
        "cold_start", "error",
    )  # fmt: skip
    shown = zip(scores["items"], scores["probabilities"], strict=True) if scores else ()
    ranked = [f"{item} {p:.4f}".strip() for item, p in shown]
    return {name: row[name] for name in names} | {
        "answered_at": _time(row["at"]),
        "as_of": _time(row["as_of"]),
        "latency_ms": round(row["latency_ms"], 2),
        f"first {min(len(ranked), MOST_ITEMS_SHOWN)} of {len(ranked)} shown": ranked[:MOST_ITEMS_SHOWN],
    }


def _decision(row: dict[str, Any]) -> dict[str, Any]:
    names = ("revision", "action", "reasons", "rule_ids", "propensity")
    order = row["order"]
    first = f"first {min(len(order), MOST_ITEMS_SHOWN)} of {len(order)} positions"
    return {name: row[name] for name in names} | {first: order[:MOST_ITEMS_SHOWN]}


def _fed(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The row of the matrix by the names of its columns, numbered where the bundle that knows them is not here."""
    known = names if len(names) == len(row["row"]) else [f"input {place}" for place in range(len(row["row"]))]
    head = {name: row[name] for name in ("revision", "position", "item", "context")}
    return head | {"fed": dict(zip(known, row["row"], strict=True))}


def _input_names(project: Project, problem: str, version: str) -> tuple[str, ...]:
    """The columns of a version's matrix; empty where neither the service nor the registry leads to its bundle."""
    try:
        _, uri = version_of(project, problem, version)
        return tuple(str(one["name"]) for one in read_manifest(bundle_store(project).get(uri)).inputs)
    except SerinusError:
        return ()


def _kpis(table: pa.Table, request_id: str, plan: KpiPlan) -> dict[str, Any]:
    rows = table.filter(pc.equal(table["request_id"], request_id)).to_pylist()
    return {
        f"{name} ({row['revision']})": row[name] for row in rows for name in plan.columns() if row[name] is not None
    }


def _model(project: Project, problem: str, version: str) -> dict[str, Any]:
    """From the version to the snapshot, by the tags that the pipeline gave the version."""
    try:
        found = registry(project).version(problem, version)
    except SerinusError as fault:
        return {"model_version": version, "registry": fault.headline}
    tags = {name.removeprefix("serinus."): value for name, value in found.tags.items()}
    return {
        "model_version": found.version,
        "bundle": tags.get("bundle_hash", ""),
        "candidate": tags.get("candidate", ""),
        "mlflow_run": found.run_id,
        "pipeline_run": tags.get("pipeline_run", ""),
        "feature_service": f"{tags.get('feature_service', '')} {tags.get('service_hash', '')}",
        "training_set": tags.get("training_set_hash", ""),
        "data_snapshot": tags.get("snapshot_hash", ""),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
