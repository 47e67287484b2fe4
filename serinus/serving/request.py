"""A request as the data plane takes it, and the faults of one, told by field.

Invariant: what parses is safe to look up: ids are in their written form, every number fits the model, no list is too
long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serinus.client.bucket import ARM_HEADER, HEADER, ROUTE_HEADER
from serinus.client.written import LARGEST, MOST_CHARACTERS, moment, number, written_id
from serinus.core.errors import UsageError

MOST_ITEMS = 500
MOST_CONTEXT = 64
MOST_FAULTS = 50
REQUEST_ID_HEADER = "x-request-id"
# Of a route's stamp; a rollout's name is a label of DNS, and the number of its route has six digits at most. And of the
# name of an arm, which is far shorter: a header of any size would be a row of any size.
MOST_STAMP = 80

# The limits of the fields are for the published schema; the validators alone decide.
Id = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), BeforeValidator(written_id)]
Moment = Annotated[datetime, BeforeValidator(moment)]
ContextName = Annotated[str, Field(min_length=1, max_length=64)]
ContextValue = Annotated[float, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(number)] | None


class BadRequest(UsageError):
    """A request that cannot be answered; `fields` are pairs of a path and what is wrong there."""

    def __init__(self, headline: str, fields: Mapping[str, str]) -> None:
        self.fields = dict(fields)
        super().__init__(headline, cause="; ".join(f"{path}: {problem}" for path, problem in self.fields.items()))

    def as_body(self) -> dict[str, Any]:
        """What the caller gets."""
        fields = [{"field": path, "problem": problem} for path, problem in self.fields.items()]
        return {"error": self.headline, "fields": fields}


class Instance(BaseModel):
    """The body of a request (D3). Whole numbers are taken as ids; times without a zone are UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: Annotated[Id, Field(description="who is asked about; looked up in the feature store")]
    unit: Annotated[Id | None, Field(description="who is assigned to an arm; the entity when left out")] = None
    items: Annotated[tuple[Id, ...], Field(max_length=MOST_ITEMS, description="candidates to rank, all different")] = ()
    context: Annotated[dict[ContextName, ContextValue], Field(max_length=MOST_CONTEXT)] = {}
    request_id: Annotated[
        Id | None, Field(description="repeat it when retrying; else x-request-id, else a new one")
    ] = None
    as_of: Annotated[Moment | None, Field(description="event time, only for servers started for replays")] = None


@dataclass(frozen=True)
class Caller:
    """What the headers say, or gRPC's metadata: the bucket, the forced arm, the route's stamp and a request id.

    Each is empty when absent. Stamp and arm are taken as they came, cut, with "?" for what cannot be printed (it would
    steer the terminal of who reads the log): evidence judges them, and whoever is answered by a faulty gateway is
    answered all the same.
    """

    bucket: str = ""
    forced_arm: str = ""
    route: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str] | None) -> Caller:
        """From lower-case header names."""
        found = headers or {}
        arm, route = (_stamp(found.get(name, "")) for name in (ARM_HEADER, ROUTE_HEADER))
        return cls(found.get(HEADER, ""), arm, route, found.get(REQUEST_ID_HEADER, ""))

    def fault(self) -> str:
        """What is wrong with the request id, empty when nothing is: it is never cut, for outcomes name it whole."""
        try:
            # HTTP says nothing of the encoding of a header's other characters.
            return "" if not self.request_id or written_id(self.request_id).isascii() else "must be ASCII"
        except ValueError as fault:
            return str(fault)


def _stamp(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:MOST_STAMP])


def parse_instance(raw: object, path: str) -> Instance:
    """One instance. Raises `BadRequest` with its faults by field, the first 50."""
    try:
        found = Instance.model_validate(raw)
    except ValidationError as fault:
        raise BadRequest("the request is not valid", _faults(fault, path)) from fault
    if len(set(found.items)) < len(found.items):
        raise BadRequest("the request is not valid", {f"{path}.items": "an item is named twice"})
    return found


def parse_v1(payload: object) -> Instance:
    """KServe's V1 body with exactly one instance: the bucket header names one unit, so a call is about one."""
    if not isinstance(payload, dict):
        raise BadRequest("the body is not a JSON object", {"body": "must be an object with instances"})
    unknown = sorted(set(payload) - {"instances"})
    if unknown:
        told = {str(name)[:300] or '""': "unknown field" for name in unknown[:MOST_FAULTS]}
        raise BadRequest("the request is not valid", told)
    instances = payload.get("instances")
    if not isinstance(instances, list) or len(instances) != 1:
        raise BadRequest("the request is not valid", {"instances": "must be a list of exactly one request"})
    return parse_instance(instances[0], "instances[0]")


def _faults(fault: ValidationError, path: str) -> dict[str, str]:
    found = {}
    for error in fault.errors(include_url=False, include_input=False, include_context=False)[:MOST_FAULTS]:
        place = path
        for part in error["loc"]:
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
        found[place[:300]] = str(error["msg"]).removeprefix("Value error, ")
    return found
