"""Logs of named outcomes, cards that are judged by them, and what a loop over the log makes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kpi_rows import BEGIN, COVARIATES, HOURS, LATER, NEW, OLD, SALT, arm_of, mirrored, spec_of, state_at
from memory_log import MemoryLog, exposure, outcome

from serinus.client import bucket_of
from serinus.core.card import Kpi, Problem, parse_card
from serinus.core.events import Exposure, Outcome, Stream
from serinus.core.stats.reading import Look
from serinus.evidence.plan import KpiPlan
from serinus.evidence.reduce import KpiReducer
from serinus.evidence.source import KpiEvidence
from serinus.evidence.state import StateFolder

MINUTE = 60.0
WINDOW = 2 * HOURS


def kpi(name: str, formula: str, **more: Any) -> dict[str, Any]:
    """A KPI as a card writes it: a goal of requests, judged often."""
    given = {"direction": "higher", "role": "goal", "per": "request", "window": "8h", "non_inferiority_margin": 0.5}
    return {"name": name, "formula": formula, "look_every": 15} | given | more


RATE = kpi("signups", "outcome_rate", outcome="signup")
VALUE = kpi("spent", "outcome_value", outcome="order", cap=25.0, window="2h")
ONCE = kpi("any_order", "outcome_rate", outcome="order", per="unit", role="guardrail")
ERRORS = kpi("errors", "error_rate", role="guardrail", direction="lower", harm_margin=0.5)
SECONDS = {"signups": WINDOW, "spent": 2 * 3600.0, "any_order": WINDOW}


def card_with(card: Problem, *kpis: dict[str, Any]) -> Problem:
    """The card, judged by these and by errors."""
    raw = card.model_dump(mode="json", by_alias=True)
    raw["requirements"]["kpis"] = [*kpis, ERRORS]
    return parse_card(raw)


@dataclass(frozen=True)
class Log:
    """What was answered and what came of it; a duplicate stands twice."""

    exposures: Sequence[Exposure]
    outcomes: Sequence[Outcome]

    def value(self, one: Kpi, of: Exposure) -> float:
        """By a loop: an outcome of the name, of this request or later of its unit, that happened and came in time."""
        found, seen = [], set()
        for event in self.outcomes:
            closes = of.as_of + SECONDS[one.name]
            mine = event.request_id == of.request_id
            later = not event.request_id and event.unit == of.unit and event.as_of > of.as_of
            if event.id not in seen and event.name == one.outcome and (mine or later):
                seen.add(event.id)
                found += [event.value] if event.as_of <= closes and event.at <= closes else []
        return min(sum(found), float(one.cap)) if one.cap else float(bool(found))


def random_log(seed: int, requests: int, *, gain: float = 0.0) -> Log:
    """Requests over the steps of a rollout: mirrored, failed, of returning units; outcomes in time, late, twice, of
    other names, by request and by unit. The canary's units do more by `gain`.
    """
    rng, exposures, outcomes = np.random.default_rng(seed), [], []
    for number in range(requests):
        at = BEGIN + 3.0 + 3 * HOURS * (number + 0.5) / requests
        step, unit = int((at - BEGIN) // HOURS), f"u{rng.integers(0, max(requests // 2, 2))}"
        arms = [OLD, NEW] if step == 0 and mirrored(unit) else [arm_of(unit, (0, 25, 50)[step])]
        for place, arm in enumerate(arms):
            error = "BundleError" if rng.random() < 0.05 else ""
            known = {"unit": unit, "revision": arm, "bucket": bucket_of(SALT, unit), "error": error}
            exposures.append(exposure(f"r{number:05d}", at + 0.01 * place, sequence=len(exposures), **known))
        for _ in range(rng.poisson(0.8 * (1 + gain * (arms[-1] == NEW)))):
            outcomes += _outcomes(rng, len(outcomes), f"r{number:05d}", unit, at)
    return Log(exposures, outcomes)


def _outcomes(rng: np.random.Generator, number: int, request: str, unit: str, at: float) -> list[Outcome]:
    happened = at + rng.choice([-MINUTE, MINUTE, 100 * MINUTE, 9 * 60 * MINUTE, WINDOW])
    came = max(happened, at) + rng.choice([0.0, 0.0, MINUTE, 9 * 60 * MINUTE])
    values = {"name": str(rng.choice(["signup", "order", "visit"])), "unit": unit, "value": float(rng.integers(-2, 20))}
    by_unit = rng.random() < 0.4
    one = outcome(f"o{number:05d}", "" if by_unit else request, at=came, as_of=happened, **values)
    return [one, one] if rng.random() < 0.2 else [one]


@contextmanager
def reduced(card: Problem, log: Log, *, batches: int = 1) -> Iterator[KpiReducer]:
    """The log as it came in, reduced after each batch and at the end. There are no scores: the model is not ours."""
    arrivals = sorted([*log.exposures, *log.outcomes], key=lambda one: one.at)
    written = MemoryLog()
    with tempfile.TemporaryDirectory() as folder:
        reducer = KpiReducer(written, StateFolder(Path(folder)), KpiPlan.of(card))
        for part in np.array_split(np.arange(len(arrivals)), batches):
            rows = [arrivals[place] for place in part]
            written.append(Stream.OUTCOMES, [one for one in rows if isinstance(one, Outcome)])
            written.append(Stream.EXPOSURES, [one for one in rows if isinstance(one, Exposure)])
            if rows:
                reducer.reduce(rows[-1].at)
        reducer.reduce(LATER)
        yield reducer


def looks_of(card: Problem, reducer: KpiReducer) -> tuple[Look, ...]:
    """All looks of a rollout over the card's KPIs, the log's steps being over."""
    source = KpiEvidence(reducer, KpiPlan.of(card), COVARIATES, now=lambda: LATER)
    return source.read(spec_of(card.requirements.kpis), state_at(2)).looks
