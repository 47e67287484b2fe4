"""The card told as the four steps of designing a machine-learning system, and what of it nobody reads yet.

Invariant: all that is told is in the card; a field that no stage reads is in `NOT_USED_YET` and optional.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serinus.core.card.problem import Problem

TITLES = ("1. Requirements", "2. Framing", "3. Data and models", "4. Operation")
NOT_USED_YET = (
    "requirements.latency.p50_ms",
    "requirements.latency.p99_ms",
    "requirements.throughput_rps",
    "operation.monitoring",
    "operation.retraining",
)


def four_steps(card: Problem) -> list[dict[str, Any]]:
    """Each step's title and what the card says of it, by short names, in order."""
    said = (_requirements(card), _framing(card), _data(card), _operation(card))
    return [{"title": title, "says": says} for title, says in zip(TITLES, said, strict=True)]


def not_used_yet(card: Problem) -> list[str]:
    """The fields that this card gives although nothing reads them yet."""
    given: list[str] = []
    for path in NOT_USED_YET:
        node: Any = card
        for part in path.split("."):
            node = getattr(node, part, None)
        if node is not None:
            given.append(path)
    return given


def _requirements(card: Problem) -> dict[str, str]:
    asked = card.requirements
    by_role = {role: [kpi.name for kpi in asked.kpis if kpi.role == role] for role in ("goal", "guardrail", "report")}
    kpis = {f"KPIs, {role}": ", ".join(names) for role, names in by_role.items() if names}
    return {"goal": asked.goal, "users": asked.users, **kpis}


def _framing(card: Problem) -> dict[str, str]:
    framing = card.framing
    whom = f"{framing.kind.value} of {framing.item} for each {framing.entity}" if framing.item else framing.kind.value
    context = ", ".join(framing.request.context)
    return {
        "task": whom if framing.item else f"{whom}: one probability for each {framing.entity}",
        "label": f"{framing.label.name}: {framing.label.positive}",
        "loss": framing.loss.replace("_", " "),
        "assigned by": framing.unit,
        **({"a request carries": context} if context else {}),
    }


def _data(card: Problem) -> dict[str, str]:
    data = card.data
    windows = ", ".join(f"{name} {window.start} to {window.end}" for name, window in data.splits.items())
    return {
        "source": f"{data.source}, as of {data.snapshot_time:%Y-%m-%d}",
        "features": f"service {data.feature_service}, inputs in {data.features}",
        "splits": windows,
        "candidates": ", ".join(one.name for one in data.candidates),
        "baselines": ", ".join(one.name for one in data.baselines) or "none",
        "chosen by": f"{data.selection.metric} on the validation window, within {data.selection.slowest_class_ms:g} ms",
    }


def _operation(card: Problem) -> dict[str, str]:
    operation = card.operation
    steps = [_rollout_step(step.model_dump(exclude_none=True)) for step in operation.rollout.steps]
    gates = [f"{gate.name}{' (warning)' if gate.severity.value == 'warning' else ''}" for gate in operation.gates]
    return {"gates": ", ".join(gates), "rollout": ", then ".join(steps)}


def _rollout_step(step: dict[str, Any]) -> str:
    if "weight" in step:
        return f"{step['weight']} % of the traffic"
    if "shadow" in step:
        return f"shadow of {step['shadow']:.0%} of the requests"
    return f"bake for {step['bake']}" if "bake" in step else "approval by a person"
