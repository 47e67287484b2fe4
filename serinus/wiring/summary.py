"""`summary.json`: the figures of a run for machines, made of its journal.

Invariant: every figure is copied from a step's record; what a failed run did not reach is empty, never invented.
"""

from __future__ import annotations

from typing import Any

from serinus.core.card import Problem
from serinus.core.metric import at, family_of
from serinus.core.rollout.record import RolloutRecord
from serinus.core.run import RunRecord, StepRecord


def summarize(record: RunRecord, card: Problem) -> dict[str, Any]:
    """The summary of a run; `elapsed_s` is that of its steps, and `make demo` replaces it by its own clock."""
    hits = at("hits", card.requirements.k)
    evaluation = record.facts("evaluate").get("evaluation", {})
    registered = record.facts("register")
    failure = record.failure()
    return {
        "problem": card.name,
        "elapsed_s": round(sum(step.seconds for step in record.steps), 1),
        "stages": [stage for step in record.steps for stage in [_stage(step)]],
        "import_s": round(sum(step.import_seconds for step in record.steps), 1),
        "peak_mb": round(max((step.peak_mb for step in record.steps), default=0.0)),
        "candidates": [
            {"name": one["name"], "kind": one["kind"], "metrics": one["metrics"]}
            for one in evaluation.get("models", [])
        ],
        "baselines": {
            name: next(iter(metrics.get(key) for key in (hits, "average_precision") if key in metrics), None)
            for name, metrics in evaluation.get("baselines", {}).items()
        },
        "chosen": evaluation.get("chosen"),
        "gates": [
            {"candidate": name, "name": one.name, "verdict": one.outcome.value, "severity": one.severity.value}
            for name, checks in record.gates().items()
            for one in checks
        ],
        "model": {
            "name": registered.get("model"),
            "version": registered.get("version"),
            "bundle_hash": registered.get("bundle_hash"),
        },
        "replay": _replay(record.facts("replay"), hits),
        "rollouts": [
            RolloutRecord.model_validate(one).summary() for one in record.facts("rollouts").get("rollouts", [])
        ],
        "ids": dict(record.ids),
        "failure": failure.error.model_dump() if failure and failure.error else None,
    }


def _replay(result: dict[str, Any], hits: str) -> dict[str, Any] | None:
    """The figures that machines compare; all of them are in the replay's result.json."""
    if not result:
        return None
    kpis = {one["name"]: one["estimate"] for one in result["kpis"]}
    metrics = {one.get("metric", ""): one["estimate"] for one in result["kpis"]}
    return {
        "visits": result["visits"],
        "failed": result["failed"],
        hits: metrics.get(hits),
        "baselines": {one["name"]: one["estimate"] for one in result["baselines"]},
        "conversion": kpis.get("conversion"),
        "revenue_capped": next((value for name, value in metrics.items() if family_of(name)[0] == "revenue"), None),
        "latency_ms": result["latency_ms"],
        "kpis": kpis,
        "missing": result["missing"],
        "counters": result["counters"],
    }


def _stage(step: StepRecord) -> dict[str, Any]:
    return {"name": step.name, "seconds": round(step.seconds, 2), "import_seconds": round(step.import_seconds, 2)}
