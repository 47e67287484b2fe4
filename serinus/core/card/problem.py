"""The card as a whole: rules that tie its four sections together, and faults told by field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from serinus.core.card.data import Data
from serinus.core.card.framing import Framing
from serinus.core.card.metrics import metric_faults
from serinus.core.card.operation import Operation
from serinus.core.card.requirements import Requirements
from serinus.core.errors import CardError, UsageError
from serinus.core.fields import CardPart, Kind
from serinus.core.kpi import Kpi
from serinus.core.names import problem_faults

CHOSEN = "chosen"
_FIELD = re.compile(r"[a-z_.\[\]0-9]+: ")


def _nameable(name: str) -> str:
    faults = "; ".join(problem_faults(name))
    if faults:
        raise ValueError(faults)
    return name


class Problem(CardPart):
    """One use case, from its goal to its retraining policy. Its name is that of its model and of its usual service."""

    name: Annotated[str, AfterValidator(_nameable)]
    title: Annotated[str, Field(min_length=3)]
    requirements: Requirements
    framing: Framing
    data: Data
    operation: Operation

    @model_validator(mode="after")
    def _sections_agree(self) -> Problem:
        faults = list(kpi_faults(self.requirements.kpis, self.framing))
        if faults:
            raise ValueError(faults[0])
        if self.data.snapshot_time.date() < self.data.splits.test.start:
            raise ValueError("data.snapshot_time lies before data.splits.test: there would be no test rows")
        independent = self.framing.outcomes == "independent_of_ranking"
        judged = [kpi.judged_in_shadow(independent_outcomes=independent) for kpi in self.requirements.kpis]
        if any(step.shadow is not None for step in self.operation.rollout.steps) and not any(judged):
            raise ValueError("operation.rollout has a shadow step and no KPI can be judged in it: it would never end")
        names = {baseline.name for baseline in self.data.baselines}
        for gate in self.operation.gates:
            missing = sorted(set(gate.by) - names) if gate.check == "baselines" else []
            if missing:
                raise ValueError(f"gate {gate.name} names unknown baselines {', '.join(missing)}")
        faults = list(metric_faults(self))
        if faults:
            raise ValueError("\n".join(faults))
        return self


def kpi_faults(kpis: Sequence[Kpi], framing: Framing) -> Iterator[str]:
    """What KPIs ask of a task that it does not have, one line a fault."""
    kind, label = framing.kind, framing.label.name
    wrong = sorted(kpi.name for kpi in kpis if kind not in kpi.formula.for_kinds)
    if wrong:
        lacks = {Kind.SCORING: "no list to hit", Kind.RANKING: "no single answer"}[kind]
        other = next(one for one in Kind if one is not kind)
        yield f"kind {kind} has {lacks}: KPI {', '.join(wrong)} needs kind {other}"
    for kpi in kpis:
        if kpi.formula.guards.of_label and kpi.outcome not in (None, label):
            yield f"KPI {kpi.name} is made of the probability of {label}: outcome {kpi.outcome} must be left out"


def asked_candidates(wanted: str, card: Problem) -> tuple[str, ...]:
    """The names in `linear,chosen`, in that order, each once. Raises `UsageError` for a name the card does not have."""
    names = [one.name for one in card.data.candidates]
    asked = [part.strip() for part in wanted.split(",") if part.strip()]
    unknown = sorted(set(asked) - {*names, CHOSEN})
    if unknown or not asked:
        raise UsageError(
            f"cannot register {', '.join(unknown) or 'nothing'}", hint=f"give {CHOSEN}, or any of: {', '.join(names)}"
        )
    return tuple(dict.fromkeys(asked))


def parse_card(raw: object, *, where: str = "problem.yaml") -> Problem:
    """The card of an already parsed YAML document.

    Raises `CardError` with one line a fault: the field's path, what is wrong, and what was given.
    """
    if not isinstance(raw, Mapping):
        raise CardError(
            f"{where} is not a problem card",
            cause="the document is not a mapping of fields",
            hint="`serinus problem new NAME` writes a commented card that passes the check",
        )
    try:
        return Problem.model_validate(dict(raw))
    except ValidationError as fault:
        lines = explain(fault)
        raise CardError(
            f"{where} has {len(lines)} fault{'s' if len(lines) > 1 else ''}",
            cause="\n".join(lines),
            hint="the meaning of each field: docs/reference/problem-card.md",
        ) from fault


def explain(fault: ValidationError) -> list[str]:
    """One line a fault: `requirements.kpis[0].role: …`."""
    return [line for error in fault.errors(include_url=False) for line in _lines(error)]


def _lines(error: Mapping[str, Any]) -> list[str]:
    """A fault of the whole document may be several, which name their fields themselves."""
    several = str(error["msg"]).removeprefix("Value error, ").splitlines()
    if error["loc"] or not several or not all(_FIELD.match(line) for line in several):
        return [_line(error)]
    return several


def _line(error: Mapping[str, Any]) -> str:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = (
        "" if error["type"] in ("missing", "value_error") or isinstance(given, (dict, list)) else f" (given: {given!r})"
    )
    return f"{path or 'card'}: {message}{shown}"
