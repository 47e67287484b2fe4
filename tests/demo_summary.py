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
        ("no failure", summary["failure"] is None, summary["failure"]),
        ("largest process under 5 GB", summary["peak_mb"] < 5_000, summary["peak_mb"]),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
