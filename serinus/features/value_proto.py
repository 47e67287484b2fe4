"""Decodes the values of Feast's online layout without importing Feast.

Invariant: field numbers and types are those of feast.types.Value; a test compares every type with Feast's own class.
The descriptor is built here and decoded by the protobuf library.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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
