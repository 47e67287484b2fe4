"""Checks the summary that `make quick` wrote: `quick_summary.py SUMMARY.json`.

Invariant: verdicts are judged against the truth of the world alone; the time is told and not judged: it is promised of
an idle machine, and here other parts run beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FIELDS = {"name", "true_effect", "outcome", "decided_by", "estimate", "low", "high", "users"}


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
    better, worse = summary["versions"]
    return [
        ("every field is told", all(set(one) >= FIELDS for one in (better, worse)), sorted(better)),
        ("one version gains what it should", 0.07 < better["true_effect"] < 0.09, better["true_effect"]),
        ("one loses what it should", -0.16 < worse["true_effect"] < -0.14, worse["true_effect"]),
        ("the better one is promoted", better["outcome"] == "promoted", better["outcome"]),
        ("by its goal", better["decided_by"] == "ctr", better["decided_by"]),
        ("the worse one is rolled back", worse["outcome"] == "rolled_back", worse["outcome"]),
        ("the time is told", summary["elapsed_s"] > 0, summary["elapsed_s"]),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
