"""Decodes the values of Feast's online layout without importing Feast.

Invariant: field numbers and types are those of feast.types.Value; a test compares every type with Feast's own class.
The descriptor is built here and decoded by the protobuf library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    1: ("bytes_val", _FIELD.TYPE_BYTES),
    2: ("string_val", _FIELD.TYPE_STRING),
    3: ("int32_val", _FIELD.TYPE_INT32),
    4: ("int64_val", _FIELD.TYPE_INT64),
    5: ("double_val", _FIELD.TYPE_DOUBLE),
    6: ("float_val", _FIELD.TYPE_FLOAT),
    7: ("bool_val", _FIELD.TYPE_BOOL),
    8: ("unix_timestamp_val", _FIELD.TYPE_INT64),
}
_LISTS = {number + 10: (name.replace("_val", "_list_val"), kind) for number, (name, kind) in _SCALARS.items()}
_PACKAGE = "serinus.online"


def _descriptor() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="serinus/online.proto", package=_PACKAGE, syntax="proto3")
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="val")
    for number, (name, kind) in _SCALARS.items():
        value.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL, oneof_index=0)
    for number, (name, kind) in _LISTS.items():
        listed = file.message_type.add(name=f"List{number}")
        listed.field.add(name="val", number=1, type=kind, label=_FIELD.LABEL_REPEATED)
        value.field.add(
            name=name,
            number=number,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.List{number}",
            label=_FIELD.LABEL_OPTIONAL,
            oneof_index=0,
        )
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_descriptor())
_Value: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.Value"))

_parse = _Value.FromString
_LIST_FIELDS = frozenset(name for name, _ in _LISTS.values())


# A number of fixed width is the tag of its field and its bytes: nothing to parse. By Feast's name of the type.
_FIXED = {
    "Float64": (5 << 3 | 1, np.dtype([("tag", "u1"), ("value", "<f8")])),
    "Float32": (6 << 3 | 5, np.dtype([("tag", "u1"), ("value", "<f4")])),
}


def decode_fixed(raws: Sequence[bytes | None], kind: str) -> NDArray[np.float64] | None:
    """The values of a column of doubles or floats, NaN for null; None for other types, or when a value is of one.

    The same as `decode` of each; most features are such numbers, and a request reads some 1,500 values.
    """
    if kind not in _FIXED:
        return None
    tag, layout = _FIXED[kind]
    places = [place for place, raw in enumerate(raws) if raw]
    present = [raw for raw in raws if raw]
    if any(len(raw) != layout.itemsize for raw in present):
        return None
    stored = np.frombuffer(b"".join(present), dtype=layout)
    if (stored["tag"] != tag).any():
        return None
    found = np.full(len(raws), np.nan)
    found[places] = stored["value"]
    return found


def decode(raw: bytes | None) -> Any:  # noqa: ANN401 - any feature type
    """The Python value of a stored one: a scalar, a list, or None for null."""
    if not raw:
        return None
    value = _parse(raw)
    field = value.WhichOneof("val")
    if field is None:
        return None
    found = getattr(value, field)
    return list(found.val) if field in _LIST_FIELDS else found
