"""Whether gates and selection ask for what evaluation will have measured, so that no training is in vain.

Invariant: a card without a fault here meets no unknown metric at the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from serinus.core.card.framing import Kind
from serinus.core.metric import METRICS, of_baselines, of_models

if TYPE_CHECKING:
    from serinus.core.card.operation import GateRule
    from serinus.core.card.problem import Problem


def metric_faults(card: Problem) -> Iterator[str]:
    """One line a fault, by field."""
    ranking = card.framing.kind is Kind.RANKING
    of_model = of_models(ranking=ranking)
    chosen = card.data.selection
    if chosen.metric not in of_model:
        yield f"data.selection.metric: {chosen.metric} is not measured for kind {card.framing.kind}; {_known(of_model)}"
    elif (chosen.direction == "higher") is not METRICS[chosen.metric].higher:
        better = "higher" if METRICS[chosen.metric].higher else "lower"
        yield f"data.selection.direction: {chosen.metric} is better when {better}"
    for place, gate in enumerate(card.operation.gates):
        yield from (f"operation.gates[{place}].{fault}" for fault in _of_gate(gate, card, ranking))


def _of_gate(gate: GateRule, card: Problem, ranking: bool) -> Iterator[str]:
    measured = of_baselines(ranking=ranking) if gate.check == "baselines" else of_models(ranking=ranking)
    if gate.check == "slices":
        measured = tuple(name for name in measured if METRICS[name].higher)
    if gate.check in ("baselines", "champion", "slices") and gate.metric not in measured:
        whose = {"baselines": "baselines, which are orders without probabilities"}.get(gate.check, "models")
        why = " and better when higher" if gate.check == "slices" else ""
        yield f"metric: {gate.metric} is not measured for {whose}, kind {card.framing.kind}{why}; {_known(measured)}"
    if gate.check == "baselines" and not card.data.baselines:
        yield "check: baselines, and data.baselines names none: the gate would pass everything"


def _known(names: tuple[str, ...]) -> str:
    return f"known: {', '.join(names)}"
