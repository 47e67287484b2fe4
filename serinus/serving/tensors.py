"""Tensors of the V2 protocol: elements out of JSON, out of typed contents and out of raw bytes, and back into bytes.

Invariant: what is read has the datatype and exactly the number of elements that it says; everything else is a
`BadRequest` that names the place.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serinus.serving.request import BadRequest

_HEADLINE = "the request is not valid"
_PREFIX = struct.Struct("<I")
# Of a shape. Sizes are multiplied and told: a message has room for so many that this would take the server minutes.
_MOST_DIMENSIONS, _LARGEST = 8, 2**63 - 1


@dataclass(frozen=True)
class Datatype:
    """`numpy`: layout of an element in raw bytes, empty where each has its own length; `contents`: gRPC's field."""

    name: str
    numpy: str
    contents: str

    @property
    def kind(self) -> str:
        """numpy's letter: b, i, u, f; empty for BYTES."""
        return np.dtype(self.numpy).kind if self.numpy else ""


_NAMED = (
    ("BOOL", "?", "bool_contents"),
    ("UINT8", "<u1", "uint_contents"),
    ("UINT16", "<u2", "uint_contents"),
    ("UINT32", "<u4", "uint_contents"),
    ("UINT64", "<u8", "uint64_contents"),
    ("INT8", "<i1", "int_contents"),
    ("INT16", "<i2", "int_contents"),
    ("INT32", "<i4", "int_contents"),
    ("INT64", "<i8", "int64_contents"),
    ("FP16", "<f2", ""),
    ("FP32", "<f4", "fp32_contents"),
    ("FP64", "<f8", "fp64_contents"),
    ("BYTES", "", "bytes_contents"),
)
DATATYPES: Mapping[str, Datatype] = {one[0]: Datatype(*one) for one in _NAMED}


@dataclass(frozen=True)
class Spec:
    """What a tensor says to be; `path` is its place in the request."""

    path: str
    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def fault(self, problem: str, at: str = "") -> BadRequest:
        """Of this tensor."""
        return BadRequest(_HEADLINE, {self.path + at: problem})


@dataclass(frozen=True)
class Tensor:
    """A tensor that was read: its elements in row-major order, as bool, int, float or text."""

    spec: Spec
    values: list[Any]


def spec(path: str, name: object, datatype: object, shape: object) -> Spec:
    """Raises `BadRequest` when one of them is missing or not what it must be."""
    if not isinstance(name, str) or not name:
        raise BadRequest(_HEADLINE, {f"{path}.name": "must be a text that is not empty"})
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise BadRequest(_HEADLINE, {f"{path}.datatype": f"must be one of {', '.join(DATATYPES)}"})
    if not isinstance(shape, list) or not all(type(one) is int and 0 <= one <= _LARGEST for one in shape):
        raise BadRequest(_HEADLINE, {f"{path}.shape": "must be a list of whole numbers from 0 on"})
    if len(shape) > _MOST_DIMENSIONS:
        problem = f"has {len(shape)} dimensions, where {_MOST_DIMENSIONS} are allowed"
        raise BadRequest(_HEADLINE, {f"{path}.shape": problem})
    return Spec(path, name, DATATYPES[datatype], tuple(shape))


def from_json(of: Spec, data: object) -> Tensor:
    """Elements as a flat list, or nested as the shape says."""
    if not isinstance(data, list):
        raise of.fault("must be a list of the elements", ".data")
    flat = _unnested(of, data) if any(isinstance(one, list) for one in data) else data
    return from_elements(of, flat, ".data")


def from_elements(of: Spec, flat: Sequence[object], at: str) -> Tensor:
    """Elements one after the other; `at` is their field."""
    if len(flat) != of.size:
        raise of.fault(f"{len(flat)} elements, where the shape {list(of.shape)} has {of.size}", at)
    for position, one in enumerate(flat):
        problem = _problem(of.datatype, one)
        if problem:
            raise of.fault(problem, f"{at}[{position}]")
    return Tensor(of, [_text(of, one, f"{at}[{i}]") if isinstance(one, bytes) else one for i, one in enumerate(flat)])


def from_raw(of: Spec, raw: bytes, at: str = "") -> Tensor:
    """Little-endian elements; before each of BYTES stands its length, in 4 bytes."""
    if not of.datatype.numpy:
        return Tensor(of, [_text(of, one, f"{at}[{i}]") for i, one in enumerate(_split(of, raw, at))])
    layout = np.dtype(of.datatype.numpy)
    if len(raw) != of.size * layout.itemsize:
        wanted = f"{of.size * layout.itemsize} bytes make {of.size} elements of {of.datatype.name}"
        raise of.fault(f"{len(raw)} bytes, where {wanted}", at)
    if of.datatype.kind == "b" and raw.strip(b"\0\1"):
        raise of.fault("an element of BOOL is 0 or 1", at)
    return Tensor(of, np.frombuffer(raw, dtype=layout).tolist())


def to_raw(datatype: Datatype, values: Sequence[Any]) -> bytes:
    """What `from_raw` reads."""
    if datatype.numpy:
        return np.array(values, dtype=datatype.numpy).tobytes()
    parts = [str(one).encode() for one in values]
    return b"".join(_PREFIX.pack(len(one)) + one for one in parts)


def _unnested(of: Spec, data: list[Any]) -> list[Any]:
    level: list[Any] = [data]
    for size in of.shape:
        if not all(isinstance(one, list) and len(one) == size for one in level):
            raise of.fault(f"is not nested as the shape {list(of.shape)} says", ".data")
        level = [inner for one in level for inner in one]
    return level


def _split(of: Spec, raw: bytes, at: str) -> list[bytes]:
    found, offset = list[bytes](), 0
    while offset < len(raw) and len(found) <= of.size:
        begin = offset + _PREFIX.size
        length = _PREFIX.unpack_from(raw, offset)[0] if begin <= len(raw) else None
        if length is None or begin + length > len(raw):
            said = "the 4 bytes of a length" if length is None else f"an element of {length} bytes"
            raise of.fault(f"the bytes end within {said}", f"{at}[{len(found)}]")
        offset = begin + length
        found.append(raw[begin:offset])
    if len(found) != of.size:
        raise of.fault(f"{len(found)} elements, where the shape {list(of.shape)} has {of.size}", at)
    return found


def _text(of: Spec, one: bytes, at: str) -> str:
    try:
        return one.decode()
    except UnicodeDecodeError as fault:
        raise of.fault("is not UTF-8", at) from fault


def _problem(datatype: Datatype, one: object) -> str:
    """Why a value is no element of a datatype; empty when it is one."""
    if datatype.kind == "b":
        return "" if isinstance(one, bool) else "must be true or false"
    if datatype.kind == "":
        return "" if isinstance(one, str | bytes) else "must be a text"
    if isinstance(one, bool) or not isinstance(one, int | float):
        return "must be a number"
    if datatype.kind == "f":
        return "" if abs(one) <= float(np.finfo(datatype.numpy).max) else f"is no number that {datatype.name} holds"
    limits = np.iinfo(datatype.numpy)
    return "" if isinstance(one, int) and limits.min <= one <= limits.max else f"is no whole number of {datatype.name}"
