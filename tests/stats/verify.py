"""Verifies the statistics by simulation and writes the tables of docs/statistics.md: `python -m tests.stats.verify`.

    python -m tests.stats.verify                     all rows, then the document; minutes
    python -m tests.stats.verify --only ramp delay   these rows, nothing written
    python -m tests.stats.verify --check             the document is of this code, and its quick rows come out again
    python -m tests.stats.verify --recorded FILE     visits for the A/A rows (parquet: unit, value, base, covariate)

Exit code 1 when a row is not as it must be, or the document is not of this code.

Invariant: the document carries a hash of the code that decides, of the scenarios and of the seed; none can change
without the tables being made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.random import Generator

from tests.stats import power, rollouts
from tests.stats.recorded import Visits
from tests.stats.rows import ROWS, Row
from tests.stats.scenarios import LESS

ROOT = Path(__file__).parents[2]
DOCUMENT, RESULTS = ROOT / "docs/statistics.md", ROOT / "tests/stats/results.json"
SEED = 20261127
MARK = "<!-- from here on written by `make verify-stats` -->\n"
# Between processors the last digits of a sum may differ, and with them a run that only just crossed.
_SLACK = 0.002
# Of the printed times, of the printed shares, and of binomial data (which a rare event's skew lets decide sooner).
_TIMES, _SHARES, _MADE = 0.05, 0.04, 0.15


def code_hash() -> str:
    """Of everything the figures depend on, but the recorded visits."""
    digest = sha256(str(SEED).encode())
    for folder in ("serinus/core/stats", "tests/stats"):
        for path in sorted((ROOT / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def generator(name: str) -> Generator:
    """One of its own for each row, so rows can be run alone."""
    return np.random.default_rng([SEED, crc32(name.encode())])


def recorded_rows(visits: Visits) -> tuple[Row, ...]:
    """A/A on visits as they were."""
    return (
        Row("visits", "one pass, 50 %", "holds", lambda g, r: visits.alarms(g, r, LESS)),
        Row("visits_tenth", "one pass, 10 %", "holds", lambda g, r: visits.alarms(g, r, LESS, share=0.1)),
        Row("visits_adjusted", "one pass, covariate", "holds", lambda g, r: visits.alarms(g, r, LESS, adjust=True)),
        Row(
            "visits_passes",
            "five passes, units of (customer, pass)",
            "holds",
            lambda g, r: visits.alarms(g, r, LESS, passes=5),
        ),
        Row(
            "visits_same",
            "five passes, the same buckets in each, counted as new units",
            "fails",
            lambda g, r: visits.alarms(g, r, LESS, passes=5, own_buckets=False),
        ),
    )


ROLLOUT = Row(
    "rollouts",
    "shadow, then 50 %; four KPIs; judge and levels of a policy with alpha 0.05",
    "holds",
    rollouts.rolled_back,
)


def run_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Each row's rate, printed as it comes."""
    found = []
    for row in rows:
        started = time.process_time()
        rate = float(row.simulate(generator(row.name), row.runs).mean())
        found.append(
            {
                "name": row.name,
                "claim": row.claim,
                "expects": row.expects,
                "alpha": row.alpha,
                "runs": row.runs,
                "limit": row.limit,
                "rate": rate,
                "agrees": row.agrees(rate),
            }
        )
        seconds = time.process_time() - started
        must = f"limit {row.limit:.2%}  must {row.expects[:-1]:<5} {_mark(row.agrees(rate))}"
        _say(f"{row.name:<18} {rate:8.2%}  {must} {seconds:6.1f} s")
    return found


def run_power() -> list[dict[str, Any]]:
    """The planner's times and those of binomial data, beside the printed ones."""
    found = []
    made = {share: power.times(generator(f"binomial {share}"), share, 2000) for share in (0.05, 0.10, 0.25, 0.50)}
    for row in power.PRINTED:
        planned = power.planned(generator(row.name), row)
        drawn = [float(np.quantile(made[row.share][row.test], q, method="higher")) / 1000 for q in (0.5, 0.8)]
        off = [abs(a / b - 1) for a, b in zip(planned, (row.p50, row.p80), strict=True)]
        far = [abs(a / b - 1) for a, b in zip(drawn, planned, strict=True)]
        agrees = max(off) <= _TIMES and max(far) <= _MADE
        found.append(
            {
                "share": row.share,
                "test": row.test,
                "printed": [row.p50, row.p80],
                "planned": planned,
                "binomial": drawn,
                "agrees": agrees,
            }
        )
        _say(f"{row.name:<20} planned {_pair(planned)}  printed {_pair([row.p50, row.p80])}  {_mark(agrees)}")
    return found


def run_decisions() -> list[dict[str, Any]]:
    """How a ramp of three steps ends, beside the printed shares."""
    found = []
    for printed in power.PRINTED_DECISIONS:
        ours = power.decide(generator(f"decide {printed.effect}"), printed.effect, 4000)
        pairs = [(ours.rollback, printed.rollback), (ours.passed, printed.passed), (ours.undecided, printed.undecided)]
        agrees = all(abs(a - b) <= _SHARES for a, b in pairs)
        found.append(
            {
                "effect": printed.effect,
                "ours": [a for a, _ in pairs],
                "printed": [b for _, b in pairs],
                "agrees": agrees,
            }
        )
        _say(
            f"true effect {printed.effect:+.0%}: "
            + "  ".join(f"{a:.1%} ({b:.1%})" for a, b in pairs)
            + f" {_mark(agrees)}"
        )
    return found


def run_all(visits: Visits) -> dict[str, Any]:
    """Everything; some ten minutes on one core."""
    started = time.process_time()
    results: dict[str, Any] = {"hash": code_hash(), "seed": SEED, "visits": visits.source}
    results["rows"] = run_rows(ROWS)
    results["recorded"] = run_rows(recorded_rows(visits))
    results["rollouts"] = run_rows([ROLLOUT])
    results["power"], results["decisions"] = run_power(), run_decisions()
    _say(f"all of it took {time.process_time() - started:.0f} s of one core")
    return results


def render(results: dict[str, Any]) -> str:
    """The part of the document below the mark."""
    lines = [
        MARK,
        "## Measured",
        "",
        f"By `make verify-stats`; hash of code, scenarios and seed: `{results['hash']}`.",
        "",
    ]
    lines += [
        "### Nothing is there, and every look is taken",
        "",
        "Share of runs in which a boundary is crossed at any look. The limit is alpha and three standard errors.",
        "",
    ]
    lines += _rate_table(results["rows"])
    lines += ["", f"### On visits ({results['visits']})", "", *_rate_table(results["recorded"])]
    lines += ["", "### Whole rollouts", "", *_rate_table(results["rollouts"])]
    lines += [
        "",
        "### Thousands of units until a conversion of 5 % that fell to 4.5 % is found",
        "",
        "Median / 80th percentile: by the planner, on binomial data, and as printed before this code was written.",
        "",
        "| canary | test | planner | binomial data | printed |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['share']:.0%} | {r['test']} | {_pair(r['planned'])} | {_pair(r['binomial'])} | {_pair(r['printed'])} |"
        for r in results["power"]
    ]
    lines += [
        "",
        "### How a ramp ends: 5, 25, 50 %, 168,000 units, margin 5 %",
        "",
        "Ours (printed before). Undecided is the usual end when nothing is wrong and the margin is narrow.",
        "",
        "| true effect | rolled back | passed | undecided |",
        "|---|---|---|---|",
    ]
    for r in results["decisions"]:
        cells = " | ".join(f"{a:.1%} ({b:.1%})" for a, b in zip(r["ours"], r["printed"], strict=True))
        lines.append(f"| {r['effect']:+.0%} | {cells} |")
    return "\n".join(lines) + "\n"


def _rate_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| row | what | alpha | runs | crossed | limit | must |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        must = "hold" if r["expects"] == "holds" else "**fail**"
        figures = f"{r['alpha']:g} | {r['runs']:,} | {r['rate']:.2%} | {r['limit']:.2%}"
        lines.append(f"| {r['name']} | {r['claim']} | {figures} | {must} |")
    return lines


def check() -> list[str]:
    """What is wrong with the document; empty when nothing is. Runs the quick rows."""
    results = json.loads(RESULTS.read_text())
    if results["hash"] != code_hash():
        return ["the statistics or their scenarios changed: run `make verify-stats`"]
    if not DOCUMENT.read_text().endswith(render(results)):
        return ["docs/statistics.md is not what results.json says: run `make verify-stats`"]
    stored = {row["name"]: row["rate"] for row in results["rows"]}
    again = run_rows(row for row in ROWS if row.quick)
    return [
        f"{r['name']} came out as {r['rate']:.2%}, not {stored[r['name']]:.2%}"
        for r in again
        if not r["agrees"] or abs(r["rate"] - stored[r["name"]]) > _SLACK
    ]


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.stats.verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the hash and run the quick rows again")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="run these rows and write nothing")
    parser.add_argument("--recorded", type=Path, help="recorded visits of one version: unit, value, base, covariate")
    options = parser.parse_args(arguments)
    if options.check:
        faults = check()
        _say("\n".join(faults) or "docs/statistics.md belongs to this code")
        return int(bool(faults))
    visits = Visits.read(options.recorded) if options.recorded else Visits.made_up()
    if options.only:
        rows = [row for row in (*ROWS, *recorded_rows(visits), ROLLOUT) if row.name in options.only]
        return int(not all(row["agrees"] for row in run_rows(rows)))
    results = run_all(visits)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    DOCUMENT.write_text(DOCUMENT.read_text().partition(MARK)[0] + render(results))
    parts = ("rows", "recorded", "rollouts", "power", "decisions")
    return int(not all(row["agrees"] for part in parts for row in results[part]))


def _pair(values: Sequence[float]) -> str:
    return f"{values[0]:.1f} / {values[1]:.1f}"


def _mark(agrees: bool) -> str:
    return "ok" if agrees else "WRONG"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
