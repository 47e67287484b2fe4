"""Quality gates: what a candidate must show before it may be registered. Each rule of the card becomes one check.

Invariant: a gate that cannot be evaluated is an error, and stops like a failure when critical; `not_applicable` exists
for the champion gate alone, on a model's first version (D15).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serinus.core.card import GateRule, Problem
from serinus.core.errors import GateFailed, SerinusError
from serinus.core.metric import metric_of
from serinus.core.verdict import Check, Outcome, stopping
from serinus.training.results import Comparison, Evaluation, ModelResult

Parity = Callable[[], float]
PARITY_ALLOWED = 1e-9


@dataclass(frozen=True)
class Candidacy:
    """A candidate at the gates. `reload` loads its bundle in a fresh process: the largest golden difference."""

    name: str
    evaluation: Evaluation
    reload: Parity

    @property
    def result(self) -> ModelResult:
        """Its figures."""
        return self.evaluation.model(self.name)


def judge(card: Problem, candidacy: Candidacy) -> tuple[Check, ...]:
    """One check a gate of the card, in its order."""
    return tuple(check for rule in card.operation.gates for check in _judge_one(rule, candidacy))


def require(checks: Sequence[Check], candidate: str) -> None:
    """Raises `GateFailed` when a critical gate does not hold; the first line names the first of them."""
    stops = stopping(checks)
    if not stops:
        return
    more = f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
    raise GateFailed(
        f"candidate {candidate} was refused by gate {stops[0].line()}{more}",
        cause="\n".join(check.line() for check in stops),
        hint="the report shows every gate; limits are in operation.gates of the card",
    )


def _judge_one(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    try:
        return _CHECKS[rule.check](rule, candidacy)
    except (SerinusError, KeyError, ValueError, ArithmeticError) as fault:
        reason = fault.headline if isinstance(fault, SerinusError) else f"{type(fault).__name__}: {fault}"
        return [Check(name=rule.name, outcome=Outcome.ERROR, severity=rule.severity, reason=reason)]


def _check(rule: GateRule, holds: bool, measured: str, allowed: str, name: str = "") -> Check:
    outcome = Outcome.PASS if holds else Outcome.FAIL
    return Check(name=name or rule.name, outcome=outcome, severity=rule.severity, measured=measured, allowed=allowed)


def _baselines(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    metric = str(rule.metric)
    value = candidacy.result.metrics[metric]
    sign, word = (1, ">") if metric_of(metric).higher else (-1, "<")
    found = []
    for name in rule.by or tuple(candidacy.evaluation.baselines):
        bound = candidacy.evaluation.baselines[name][metric] * (1 + sign * rule.margin)
        holds = sign * (value - bound) > 0
        found.append(
            _check(rule, holds, f"{metric} {value:.4f}", f"{word} {bound:.4f} of {name}", f"{rule.name}.{name}")
        )
    return found


def _champion(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    """The interval's worse end must stay within the margin of the champion's mean."""
    evaluation = candidacy.evaluation
    if evaluation.champion_version is None:
        return [Check(name=rule.name, outcome=Outcome.NOT_APPLICABLE, severity=rule.severity, reason="no champion yet")]
    if evaluation.champion_error:
        reason = f"champion v{evaluation.champion_version} cannot be scored: {evaluation.champion_error}"
        return [Check(name=rule.name, outcome=Outcome.ERROR, severity=rule.severity, reason=reason)]
    one = _with_champion(evaluation, str(rule.metric), candidacy.name)
    higher = metric_of(one.metric).higher
    worst = (one.low if higher else -one.high) / abs(one.reference)
    measured = (
        f"{one.metric} {one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}] against v{evaluation.champion_version}"
    )
    return [_check(rule, worst >= -rule.margin, measured, f"worse by at most {rule.margin:.1%} of {one.reference:.4f}")]


def _with_champion(evaluation: Evaluation, metric: str, candidate: str) -> Comparison:
    rows = [c for c in evaluation.comparisons if c.against == "champion" and c.candidate == candidate]
    exact = [c for c in rows if c.metric == metric]
    if not rows:
        raise KeyError(f"{candidate} was not compared with the champion")
    return (exact or rows)[0]


def _calibration(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    ratio = candidacy.result.metrics["calibration_ratio"]
    low, high = float(rule.low or 0.0), float(rule.high or 0.0)
    return [_check(rule, low <= ratio <= high, f"predicted/observed {ratio:.3f}", f"{low:g} to {high:g}")]


def _slices(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    """Each part must reach `low` times the overall value."""
    metric, share = str(rule.metric), float(rule.low or 0.0)
    bound = candidacy.result.metrics[metric] * share
    found = []
    for name in rule.by:
        parts = [part for part in candidacy.result.slices if part.by == name]
        if not parts:
            raise KeyError(f"no slice {name} was measured")
        for part in parts:
            measured = f"{metric} {part.metrics[metric]:.4f} over {part.requests} requests"
            label = f"{rule.name}.{name}:{part.value}"
            found.append(_check(rule, part.metrics[metric] >= bound, measured, f">= {bound:.4f}", label))
    return found


def _latency(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    """Compared by class, so that two runs on one machine agree."""
    latency, limit = candidacy.result.latency, float(rule.max_ms or 0.0)
    measured = f"p50 {latency.p50_ms:.2f} ms (class {latency.class_ms:g} ms)"
    return [_check(rule, latency.class_ms <= limit, measured, f"class <= {limit:g} ms")]


def _golden_rows(rule: GateRule, candidacy: Candidacy) -> list[Check]:
    worst = candidacy.reload()
    measured = f"largest difference {worst:.2g} in a fresh process"
    return [_check(rule, worst <= PARITY_ALLOWED, measured, f"<= {PARITY_ALLOWED:g}")]


_CHECKS: dict[str, Callable[[GateRule, Candidacy], list[Check]]] = {
    "baselines": _baselines,
    "champion": _champion,
    "calibration": _calibration,
    "slices": _slices,
    "latency": _latency,
    "golden_rows": _golden_rows,
}
