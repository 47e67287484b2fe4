"""Mutated valid messages: what a client with one fault sends, of every protocol.

Invariant: a function of the random numbers it is given.
"""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

JSON_LENGTH = "inference-header-content-length"


class Literal(str):
    """Text that goes into JSON as it is: what `json` would never write."""


HUGE, MOMENT = "9" * 40, "2024-03-05T10:00"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**63), 2**64, 1e308, "", "1", "a", "entity", "\x00", "\n", "\u202e",
    "é", "x" * 400, [], {}, [[]], [None], {"": None}, [1, [2]], ["a", "a"], "9999-12-31T23:59:59-10:00", "NaN", "1e999",
    Literal("NaN"), Literal("Infinity"), Literal("1e999"), Literal(HUGE), Literal("-" + HUGE), Literal('"\\ud800"'),
    Literal("[" * 60 + "]" * 60), Literal('{"a":' * 60 + "1" + "}" * 60), Literal("tru"), Literal("1 2"),
)  # fmt: skip
KEYS = (
    "name", "shape", "datatype", "data", "inputs", "outputs", "parameters", "id", "entity", "items", "context",
    "unit", "as_of", "request_id", "instances", "binary_data_size", "binary_data", "", "__class__", "x" * 70,
)  # fmt: skip
DATATYPES = ("BOOL", "UINT8", "INT32", "INT64", "UINT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "bytes", "")


@dataclass
class Http:
    """A request as bytes, with its headers."""

    body: bytes
    headers: dict[str, bytes] = field(default_factory=lambda: {"content-type": b"application/json"})


def written(document: Any) -> bytes:
    """JSON, with literals as they are."""
    held: list[str] = []

    def keep(value: Any) -> Any:
        if isinstance(value, Literal):
            held.append(str(value))
            return f"\x01{len(held) - 1}\x01"
        if isinstance(value, dict):
            return {key: keep(one) for key, one in value.items()}
        return [keep(one) for one in value] if isinstance(value, list) else value

    text = json.dumps(keep(document))
    for number, literal in enumerate(held):
        text = text.replace(f'"\\u0001{number}\\u0001"', literal)
    return text.encode()


def mutated(document: Any, chance: random.Random) -> Any:
    """A copy with one to three nodes changed."""
    made = [copy.deepcopy(document)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice(_places(made))
        _change(holder, key, chance)
    return made[0]


def _places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    found = [(node, key) for key in keys]
    for key in keys:
        found += _places(node[key])
    return found


def _change(holder: Any, key: Any, chance: random.Random) -> None:
    kind = chance.randrange(8)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice(KEYS)] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        holder[key] = chance.choice(DATATYPES)
    elif kind == 5 and isinstance(holder[key], list):
        holder[key] = holder[key][: len(holder[key]) // 2]
    elif kind == 6 and isinstance(holder, dict):
        holder[chance.choice(KEYS)] = copy.deepcopy(chance.choice(VALUES))
    else:
        holder[key] = copy.deepcopy(chance.choice(VALUES))


def bytes_mutated(content: bytes, chance: random.Random) -> bytes:
    """Cut, lengthened, or with some bytes changed."""
    changed = bytearray(content)
    kind = chance.randrange(3)
    if kind == 0:
        return content[: chance.randrange(len(content) + 1)]
    if kind == 1:
        at = chance.randrange(len(content) + 1)
        return content[:at] + chance.randbytes(chance.randrange(1, 9)) + content[at:]
    for _ in range(chance.randrange(1, 5)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _instances() -> list[dict[str, Any]]:
    full = {"entity": "1", "unit": "u", "items": ["a", "b", "c"], "context": {}, "request_id": "r", "as_of": MOMENT}
    return [{"instances": [{"entity": "1", "items": ["a"]}]}, {"instances": [full]}]


def v1(chance: random.Random) -> Http:
    """A mutant of `:predict`."""
    document = chance.choice(_instances())
    made = Http(written(document if chance.random() < 0.2 else mutated(document, chance)))
    return _worse(made, chance)


def _tensor(name: str, *values: Any, datatype: str = "BYTES") -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": list(values)}


def framed(*values: bytes) -> bytes:
    """Raw BYTES."""
    return b"".join(struct.pack("<I", len(one)) + one for one in values)


def v2(chance: random.Random) -> Http:
    """A mutant of `infer`, of JSON or with bytes behind it."""
    document: dict[str, Any] = {"id": "r", "inputs": [_tensor("entity", "1"), _tensor("items", "a", "c")]}
    if chance.random() < 0.4:
        document["inputs"].append(_tensor("as_of", MOMENT))
        document["outputs"] = [{"name": "items", "parameters": {"binary_data": True}}]
        document["parameters"] = {"binary_data_output": True}
    binary = b""
    if chance.random() < 0.5:
        for one in document["inputs"]:
            raw = framed(*(text.encode() for text in one.pop("data")))
            one["parameters"] = {"binary_data_size": len(raw)}
            binary += raw if chance.random() < 0.7 else bytes_mutated(raw, chance)
    text = written(document if chance.random() < 0.2 else mutated(document, chance))
    made = Http(text + binary)
    if binary:
        made.headers = {"content-type": b"application/octet-stream", JSON_LENGTH: str(len(text)).encode()}
    return _worse(made, chance)


_HEADERS = {
    "content-type": (
        b"application/json; charset=utf-8",
        b"text/plain",
        b"",
        b"application/json; charset=utf-16",
        b"\xff",
    ),
    JSON_LENGTH: (b"0", b"5", b"-1", b"abc", b"99999999999999999999", b"\xb2", b"1.5", b""),
    "content-encoding": (b"gzip", b"identity"),
    "x-request-id": (b"r", b"\xff\xfe", b"x" * 500, b"a\tb"),
    "x-serinus-bucket": (b"007", b"1000", b"\xff", b""),
    "x-serinus-arm": (b"canary", b"\xff"),
    "x-serinus-route": (b"toy.3", b"\xff" * 500, b"a\tb"),
    "ce-specversion": (b"1.0",),
}


def _worse(made: Http, chance: random.Random) -> Http:
    if chance.random() < 0.15:
        made.body = bytes_mutated(made.body, chance)
    if chance.random() < 0.15:
        name = chance.choice(list(_HEADERS))
        made.headers[name] = chance.choice(_HEADERS[name])
    return made


_INTS = (0, -1, 2, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**63 - 1)


def grpc(chance: random.Random) -> bytes:
    """A mutant of `ModelInfer` on the wire."""
    asked = messages.ModelInferRequest(model_name="toy", id="r")
    raw = chance.random() < 0.5
    for name, values in (("entity", [b"1"]), ("items", [b"a", b"c"]), ("as_of", [MOMENT.encode()])):
        tensor = asked.inputs.add(name=name, datatype="BYTES", shape=[len(values)])
        if raw:
            asked.raw_input_contents.append(framed(*values))
        else:
            tensor.contents.bytes_contents.extend(values)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        chance.choice(_GRPC)(asked, chance)
    wire = asked.SerializeToString()
    return bytes_mutated(wire, chance) if chance.random() < 0.2 else wire


def _any(asked: Any, chance: random.Random) -> Any:
    return chance.choice(list(asked.inputs) or [asked.inputs.add()])


def _shape(asked: Any, chance: random.Random) -> None:
    shape = _any(asked, chance).shape
    shape[:] = [chance.choice(_INTS) for _ in range(chance.randrange(4))]


def _datatype(asked: Any, chance: random.Random) -> None:
    _any(asked, chance).datatype = chance.choice(DATATYPES)


def _contents(asked: Any, chance: random.Random) -> None:
    contents = _any(asked, chance).contents
    found = chance.choice(contents.DESCRIPTOR.fields).name
    values: dict[str, Any] = {"bool": True, "bytes": chance.randbytes(3), "fp32": float("nan"), "fp64": float("inf")}
    held = getattr(contents, found)
    if chance.random() < 0.3:
        del held[:]
    else:
        held.append(values.get(found.partition("_")[0], chance.choice((0, 1, 2**31 - 1))))


def _raw(asked: Any, chance: random.Random) -> None:
    held = asked.raw_input_contents
    if held and chance.random() < 0.8:
        at = chance.randrange(len(held))
        held[at] = bytes_mutated(held[at], chance)
    elif held and chance.random() < 0.5:
        del held[-1]
    else:
        held.append(chance.randbytes(chance.randrange(9)))


def _named(asked: Any, chance: random.Random) -> None:
    _any(asked, chance).name = chance.choice(KEYS)


def _repeated(asked: Any, chance: random.Random) -> None:
    one: Message = _any(asked, chance)
    asked.inputs.add().CopyFrom(one)


def _dropped(asked: Any, chance: random.Random) -> None:
    if asked.inputs:
        del asked.inputs[chance.randrange(len(asked.inputs))]


def _asked(asked: Any, chance: random.Random) -> None:
    asked.outputs.add(name=chance.choice(("items", "probabilities", "classes", "")))


def _head(asked: Any, chance: random.Random) -> None:
    name = chance.choice(("id", "model_name", "model_version"))
    setattr(asked, name, chance.choice(("", "x" * 400, "a\nb", "toy")))


_GRPC: tuple[Callable[[Any, random.Random], None], ...] = (
    _shape, _datatype, _contents, _raw, _named, _repeated, _dropped, _asked, _head,
)  # fmt: skip
