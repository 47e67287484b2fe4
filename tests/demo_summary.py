"""Checks the summary that `make demo` wrote: `demo_summary.py SUMMARY.json`.

Invariant: figures are judged against what the README promises of retail, with the room that machines differ by.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """Prints each condition; 1 when one does not hold."""
    summary: dict[str, Any] = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    failed = False
    for name, holds, value in conditions(summary):
        failed |= not holds
        sys.stdout.write(f"{'ok  ' if holds else 'FAIL'} {name}: {value}\n")
    return int(failed)


def conditions(summary: dict[str, Any]) -> list[tuple[str, bool, Any]]:
    """Name, whether it holds, and the figure."""
    metrics = {one["kind"]: one["metrics"] for one in summary["candidates"]}
    chosen = next(one["metrics"] for one in summary["candidates"] if one["name"] == summary["chosen"])
    hits, baselines = chosen["hits_at_10"], summary["baselines"]
    critical = [gate for gate in summary["gates"] if gate["severity"] == "critical"]
    return [
        ("every baseline is beaten", all(hits > value for value in baselines.values()), (round(hits, 3), baselines)),
        ("hits of the linear model", metrics["linear"]["hits_at_10"] >= 1.42, metrics["linear"]["hits_at_10"]),
        ("hits of the trees", metrics["gbdt"]["hits_at_10"] >= 1.47, metrics["gbdt"]["hits_at_10"]),
        ("AUC of the chosen", chosen["auc"] >= 0.742, chosen["auc"]),
        ("normalized entropy of the chosen", chosen["normalized_entropy"] <= 0.900, chosen["normalized_entropy"]),
        ("calibration of the chosen", 0.95 <= chosen["calibration_ratio"] <= 1.05, chosen["calibration_ratio"]),
        ("a hit among 5 is not saturated", chosen["any_hit_at_5"] <= 0.9, chosen["any_hit_at_5"]),
        ("critical gates", all(g["verdict"] in ("pass", "not_applicable") for g in critical), len(critical)),
        ("a version is registered", bool(summary["model"]["version"]), summary["model"]),
        *replayed(summary["replay"]),
        *rolled_out(summary["rollouts"]),
        ("no failure", summary["failure"] is None, summary["failure"]),
        ("largest process under 5 GB", summary["peak_mb"] < 5_000, summary["peak_mb"]),
    ]


def replayed(replay: dict[str, Any]) -> list[tuple[str, bool, Any]]:
    """The replay of October's first visits."""
    hits, baselines = replay["hits_at_10"], replay["baselines"]
    return [
        ("replayed visits", replay["visits"] == 300 and replay["failed"] == 0, (replay["visits"], replay["failed"])),
        ("hits of the replay beat every baseline", all(hits > one for one in baselines.values()), (hits, baselines)),
        ("latency is told", set(replay["latency_ms"]) == {"p50", "p99"}, replay["latency_ms"]),
    ]


def rolled_out(rollouts: list[dict[str, Any]]) -> list[tuple[str, bool, Any]]:
    """One promotion, a rejection in shadow before a user sees it, and a rollback at the weight."""
    told = [(one["outcome"], one["decided_by"], one["decided_in"]) for one in rollouts]
    good, unseen, live = rollouts
    harm = {kpi["name"] for kpi in live["kpis"] if kpi["role"] == "guardrail"}
    failed = sum(step["failed"] for one in rollouts for step in one["steps"])
    return [
        ("the better version is promoted", good["outcome"] == "promoted" and good["decided_in"] == "weight", told[0]),
        ("by its goal", good["decided_by"] == "hits_at_10", good["decided_by"]),
        (
            "the wrong item is rejected in shadow",
            (unseen["outcome"], unseen["decided_in"]) == ("rolled_back", "shadow"),
            told[1],
        ),
        ("no user saw it", all(step["weight"] == 0 for step in unseen["steps"]), unseen["steps"]),
        (
            "the lost correction is rolled back at the weight",
            (live["outcome"], live["decided_in"]) == ("rolled_back", "weight"),
            told[2],
        ),
        ("by log loss or calibration", live["decided_by"] in {"log_loss", "calibration"} & harm, live["decided_by"]),
        ("no request failed", failed == 0, failed),
        (
            "visits come once, or nearly so",
            all(one["replayed"]["passes"] <= 3 for one in rollouts),
            [(one["replayed"]["visits"], one["replayed"]["passes"]) for one in rollouts],
        ),
        (
            "plans are told",
            all(one["planned_units"] and one["used_units"] for one in rollouts),
            [(one["planned_units"], one["used_units"]) for one in rollouts],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
