"""A predictor's own figures over the time of a replay: the difference of its metrics before and after.

Invariant: only what happened in between counts; a server that was restarted in between counts from its start.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from serinus.replay.report import Stage

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_STAGE = "serinus_stage_seconds"


@dataclass(frozen=True)
class Scraped:
    """Means by stage, and by view the share of ids without a usable row."""

    stages: tuple[Stage, ...]
    missing: dict[str, float]


def scrape(endpoint: str, timeout: float = 5.0) -> Samples:
    """All samples of `/metrics`; none when it does not answer (a gateway has no such path)."""
    try:
        with urlopen(f"{endpoint.rstrip('/')}/metrics", timeout=timeout) as answer:  # noqa: S310 - http by the client
            text = answer.read().decode()
    except (URLError, OSError, ValueError):
        return {}
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name.startswith("serinus_")
    }


def between(before: Samples, after: Samples) -> Scraped:
    """What the counters moved by."""
    moved = {
        key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value for key, value in after.items()
    }
    stages = []
    for (name, labels), seconds in moved.items():
        count = moved.get((f"{_STAGE}_count", labels), 0.0)
        if name == f"{_STAGE}_sum" and count:
            stages.append(Stage(name=dict(labels)["stage"], mean_ms=1e3 * seconds / count))
    seen: dict[str, float] = defaultdict(float)
    bad: dict[str, float] = defaultdict(float)
    for (name, labels), count in moved.items():
        if name == "serinus_lookups_total":
            view, status = dict(labels)["view"], dict(labels)["status"]
            seen[view] += count
            bad[view] += count if status != "found" else 0.0
    return Scraped(tuple(stages), {view: bad[view] / count for view, count in sorted(seen.items()) if count})
