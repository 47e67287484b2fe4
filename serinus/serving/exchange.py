"""One call of a protocol over HTTP: a body becomes an `Instance`, an `Answer` becomes a body.

Invariant: whatever a body holds, reading it gives an `Instance` or a `BadRequest` that names the field; what cannot be
answered as it was asked for is refused when it is read, before the data plane knows of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson

from serinus.serving import infer, tensors
from serinus.serving.answer import Answer
from serinus.serving.request import BadRequest, Instance, parse_v1

_HEADLINE = "the request is not valid"
JSON_LENGTH = "inference-header-content-length"
# int() takes signs, blanks and the digits of every script, and breaks on thousands of digits.
_LENGTH = re.compile(r"[0-9]{1,20}")


class Exchange(Protocol):
    """A question and how it is answered."""

    def read(self, outputs: Sequence[str], /) -> Instance:
        """`outputs` names the tensors that the model has. Raises `BadRequest`."""

    def write(self, answer: Answer) -> object:
        """What the transport sends; after `read`."""


@dataclass(frozen=True)
class Body:
    """Of an answer over HTTP."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True)
class V1:
    """`POST /v1/models/NAME:predict`."""

    body: bytes

    def read(self, _: Sequence[str], /) -> Instance:
        """See `Exchange`."""
        return parse_v1(_parsed(self.body))

    def write(self, answer: Answer) -> Body:
        """See `Exchange`."""
        return Body(orjson.dumps({"predictions": [answer.as_dict()]}))


class V2:
    """`POST /v2/models/NAME/infer`: JSON, behind which binary tensors may follow."""

    def __init__(self, model: str, body: bytes, json_length: str | None) -> None:
        """`json_length`: the header that says where the JSON ends; without it all of the body is JSON."""
        self._model, self._body, self._length = model, body, json_length
        self._outputs: list[infer.Output] = []

    def read(self, outputs: Sequence[str], /) -> Instance:
        """See `Exchange`."""
        document, binary = self._parts()
        if not isinstance(document, dict):
            raise BadRequest("the body is not a V2 request", {"body": "must be an object with inputs"})
        inputs = _objects(document, "inputs", needed=True)
        sizes = [_binary_size(one, f"inputs[{i}]") for i, one in enumerate(inputs)]
        if sum(size or 0 for size in sizes) != len(binary):
            said = f"{len(binary)} bytes follow the JSON, where the inputs say {sum(size or 0 for size in sizes)}"
            raise BadRequest(_HEADLINE, {"body": said})
        raws, offset = [], 0
        for size in sizes:
            raws.append(None if size is None else binary[offset : offset + size])
            offset += size or 0
        found = infer.tensors([partial(_tensor, one, f"inputs[{i}]", raws[i]) for i, one in enumerate(inputs)])
        whole = _flag(_parameters(document, "parameters"), "binary_data_output", "parameters")
        self._outputs = infer.outputs(_requested(document, whole), outputs, whole)
        return infer.instance(_text(document, "id"), found)

    def write(self, answer: Answer) -> Body:
        """See `Exchange`."""
        told, tail = [], b""
        for one in self._outputs:
            values = one.values(answer)
            head: dict[str, Any] = {"name": one.name, "shape": [len(values)], "datatype": one.datatype.name}
            raw = tensors.to_raw(one.datatype, values) if one.binary else b""
            told.append(head | ({"parameters": {"binary_data_size": len(raw)}} if one.binary else {"data": values}))
            tail += raw
        head = {"id": answer.request_id, "model_name": self._model, "model_version": answer.version}
        text = orjson.dumps(head | {"parameters": infer.parameters(answer), "outputs": told})
        if not any(one.binary for one in self._outputs):
            return Body(text)
        return Body(text + tail, {JSON_LENGTH: str(len(text))}, "application/octet-stream")

    def _parts(self) -> tuple[object, bytes]:
        if self._length is None:
            return _parsed(self._body), b""
        length = int(self._length) if _LENGTH.fullmatch(self._length) else -1
        if not 0 <= length <= len(self._body):
            problem = f"must say how many of the {len(self._body)} bytes are JSON"
            raise BadRequest(_HEADLINE, {JSON_LENGTH: problem})
        return _parsed(self._body[:length]), self._body[length:]


def _parsed(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise BadRequest("the body is not JSON", {"body": str(fault)[:200]}) from fault


def _tensor(raw: dict[str, Any], path: str, binary: bytes | None) -> tensors.Tensor:
    of = tensors.spec(path, raw.get("name"), raw.get("datatype"), raw.get("shape"))
    if binary is None:
        return tensors.from_json(of, raw.get("data"))
    if raw.get("data") is not None:
        raise of.fault("is given twice: as JSON and as bytes", ".data")
    return tensors.from_raw(of, binary)


def _binary_size(raw: dict[str, Any], path: str) -> int | None:
    found = _parameters(raw, f"{path}.parameters").get("binary_data_size")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < 0):
        problem = "must be a whole number of bytes"
        raise BadRequest(_HEADLINE, {f"{path}.parameters.binary_data_size": problem})
    return found


def _requested(document: dict[str, Any], binary: bool) -> list[tuple[str, bool]]:
    """Names of the outputs asked for, and whether as bytes: as the output says itself, else as the request."""
    found = []
    for position, one in enumerate(_objects(document, "outputs", needed=False)):
        path = f"outputs[{position}]"
        given = _parameters(one, f"{path}.parameters")
        if given.get("classification"):
            raise BadRequest(_HEADLINE, {f"{path}.parameters.classification": "this model has no classes"})
        found.append((_text(one, "name", f"{path}."), _flag(given, "binary_data", f"{path}.parameters", binary)))
    return found


def _objects(document: dict[str, Any], name: str, *, needed: bool) -> list[dict[str, Any]]:
    found = document.get(name)
    if found is None and not needed:
        return []
    if not isinstance(found, list) or (needed and not found):
        raise BadRequest(_HEADLINE, {name: "must be a list of tensors" + (", one at least" if needed else "")})
    for position, one in enumerate(found):
        if not isinstance(one, dict):
            raise BadRequest(_HEADLINE, {f"{name}[{position}]": "must be an object"})
    return found


def _parameters(raw: dict[str, Any], path: str) -> dict[str, Any]:
    found = raw.get("parameters")
    if found is not None and not isinstance(found, dict):
        raise BadRequest(_HEADLINE, {path: "must be an object"})
    return found or {}


def _flag(given: dict[str, Any], name: str, path: str, default: bool = False) -> bool:
    found = given.get(name, default)
    if not isinstance(found, bool):
        raise BadRequest(_HEADLINE, {f"{path}.{name}": "must be true or false"})
    return found


def _text(raw: dict[str, Any], name: str, at: str = "") -> str:
    found = raw.get(name)
    if found is not None and not isinstance(found, str):
        raise BadRequest(_HEADLINE, {at + name: "must be a text"})
    return found or ""
