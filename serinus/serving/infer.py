"""A V2 request and its answer without a transport: tensors become an `Instance`, an `Answer` becomes tensors.

Invariant: a tensor is named once and means one field of the instance; a fault names the tensor that it is in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serinus.serving.answer import Answer
from serinus.serving.request import MOST_CONTEXT, BadRequest, Instance, parse_instance
from serinus.serving.tensors import DATATYPES, Datatype, Tensor

_HEADLINE = "the request is not valid"
_MOST_TENSORS = 4 + MOST_CONTEXT
_IDS, _SINGLE = ("entity", "unit", "items"), ("entity", "unit", "as_of")
OUTPUTS = {"items": DATATYPES["BYTES"], "probabilities": DATATYPES["FP64"]}


@dataclass(frozen=True)
class Output:
    """A tensor of the answer, as it was asked for; `binary` as raw bytes."""

    name: str
    binary: bool

    @property
    def datatype(self) -> Datatype:
        """Of its elements."""
        return OUTPUTS[self.name]

    def values(self, answer: Answer) -> list[Any]:
        """In the order to show."""
        return list(answer.items if self.name == "items" else answer.probabilities)


def tensors(readers: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """All of them. Raises `BadRequest` with the first fault of each that has one, or for more than a request has."""
    if len(readers) > _MOST_TENSORS:
        raise BadRequest(_HEADLINE, {"inputs": f"at most {_MOST_TENSORS} tensors, not {len(readers)}"})
    found, faults = [], dict[str, str]()
    for read in readers:
        try:
            found.append(read())
        except BadRequest as fault:
            faults |= fault.fields
    if faults:
        raise BadRequest(_HEADLINE, faults)
    return found


def outputs(named: Sequence[tuple[str, bool]], known: Sequence[str], binary: bool) -> list[Output]:
    """What was asked for by name, or all that the model has.

    Raises `BadRequest` for a name it does not have, and for one named twice: an answer could have any size.
    """
    places: dict[str, int] = {}
    for position, (name, _) in enumerate(named):
        problem = "" if name in known else f"no output {name[:100]}; this model has {', '.join(known)}"
        problem = f"is named like outputs[{places[name]}]" if name in places else problem
        if problem:
            raise BadRequest(_HEADLINE, {f"outputs[{position}].name": problem})
        places[name] = position
    return [Output(name, chosen) for name, chosen in named or [(name, binary) for name in known]]


def instance(request_id: str, given: Sequence[Tensor]) -> Instance:
    """Any other name than those of `Instance` is a value of the context."""
    raw: dict[str, Any] = {"request_id": request_id} if request_id else {}
    context: dict[str, Any] = {}
    places: dict[str, str] = {"request_id": "id"}
    faults: dict[str, str] = {}
    for one in given:
        name, path = one.spec.name, one.spec.path
        problem = f"is named like {places[name]}" if name in places else _misfit(one)
        faults |= {path: problem} if problem else {}
        if problem:
            continue
        places[name] = path
        single = one.values if name == "items" else one.values[0]
        (raw if name in (*_SINGLE, "items") else context)[name] = single
    if faults:
        raise BadRequest(_HEADLINE, faults)
    try:
        return parse_instance(raw | ({"context": context} if context else {}), "inputs")
    except BadRequest as fault:
        raise BadRequest(fault.headline, _placed(fault.fields, places)) from fault


def parameters(answer: Answer) -> dict[str, str]:
    """Of the answer as a whole: V2 has no nested ones, so the flags are JSON text."""
    return {"revision": answer.revision, "flags": json.dumps(answer.flags.as_dict())}


def _misfit(one: Tensor) -> str:
    """Why a tensor cannot be the field that it is named after."""
    name, kind = one.spec.name, one.spec.datatype.kind
    if name != "items" and len(one.values) != 1:
        return f"must hold exactly one value, not {len(one.values)}"
    if name in _IDS and kind not in ("", "i", "u"):
        return f"must be BYTES or whole numbers, not {one.spec.datatype.name}"
    if name not in (*_IDS, "as_of") and not kind:
        return "must be numbers, not BYTES"
    return ""


def _placed(fields: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Faults of the instance at the tensors that they come from."""
    found = {}
    for path, problem in fields.items():
        inner = path.removeprefix("inputs.").removeprefix("context.")
        name = next((one for one in places if inner == one or inner.startswith((f"{one}[", f"{one}."))), None)
        found[path if name is None else places[name] + inner[len(name) :]] = problem
    return found
