"""Whether gates and selection ask for what evaluation will have measured, so that no training is in vain.

Invariant: a card without a fault here meets no unknown metric at the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from serinus.core.fields import Kind
from serinus.core.metric import at, family_of, metric_of, metrics_at, of_baselines, of_models

if TYPE_CHECKING:
    from serinus.core.card.operation import GateRule
    from serinus.core.card.problem import Problem


def metric_faults(card: Problem) -> Iterator[str]:
    """One line a fault, by field."""
    ranking, k = card.framing.kind is Kind.RANKING, card.requirements.k
    of_model = tuple(name for name in of_models(ranking=ranking, k=k) if metric_of(name).selects)
    chosen = card.data.selection
    if chosen.metric not in of_model:
        known = _known(chosen.metric, of_model, k)
        yield f"data.selection.metric: {chosen.metric} is not measured for kind {card.framing.kind}; {known}"
    elif (chosen.direction == "higher") is not metric_of(chosen.metric).higher:
        better = "higher" if metric_of(chosen.metric).higher else "lower"
        yield f"data.selection.direction: {chosen.metric} is better when {better}"
    for place, gate in enumerate(card.operation.gates):
        yield from (f"operation.gates[{place}].{fault}" for fault in _of_gate(gate, card, ranking))


def _of_gate(gate: GateRule, card: Problem, ranking: bool) -> Iterator[str]:
    k = card.requirements.k
    measured = (of_baselines if gate.check == "baselines" else of_models)(ranking=ranking, k=k)
    if gate.check == "slices":
        measured = tuple(name for name in measured if metric_of(name).higher)
    if gate.check in ("baselines", "champion", "slices") and gate.metric not in measured:
        whose = {"baselines": "baselines, which are orders without probabilities"}.get(gate.check, "models")
        known = _known(str(gate.metric), measured, k)
        why = " and better when higher" if gate.check == "slices" else ""
        yield f"metric: {gate.metric} is not measured for {whose}, kind {card.framing.kind}{why}; {known}"
    if gate.check == "baselines" and not card.data.baselines:
        yield "check: baselines, and data.baselines names none: the gate would pass everything"


def _known(asked: str, names: tuple[str, ...], k: int) -> str:
    """With the reason where it is only another k that is asked for."""
    family, other = family_of(asked)
    same = other is not None and asked in metrics_at(other) and at(family, k) in names
    return f"{f'the k of this card is {k}; ' if same else ''}known: {', '.join(names)}"
