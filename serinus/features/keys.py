"""Which form the ids of each kind have: the key type of their entity in the feature service.

Invariant: an id that passes is the only spelling of its key, so key, bucket, unit and outcomes agree on who it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serinus.client.written import whole_id, written_id
from serinus.core.errors import DataError

TEXT = "STRING"
_TOLD = 3
_BITS = {"INT32": 32, "INT64": 64}
KEY_TYPES = (TEXT, *_BITS)
_PASS = re.compile(r"#[1-9][0-9]{0,8}\Z")


def key_of(kind: str, value: object) -> str | int:
    """The key of an id in a view of this key type. Raises `ValueError` with the form that it should have."""
    text = written_id(value)
    return text if kind == TEXT else whole_id(text, _BITS[kind])


def fault_of(kind: str, value: object) -> str:
    """What `key_of` says of an id; empty when it is one."""
    try:
        key_of(kind, value)
    except ValueError as fault:
        return str(fault)
    return ""


def require_keys(where: str, column: str, kind: str, distinct: Iterable[object]) -> None:
    """Raises `DataError` when a value of a table's column is no key of this type, with examples."""
    wrong = [(one, fault) for one in distinct if (fault := fault_of(kind, one))]
    if wrong:
        raise DataError(
            f"{where} hold {len(wrong)} values of {column} that are no ids",
            cause="; ".join(f"{one!r:.60}: {fault}" for one, fault in wrong[:_TOLD]),
            hint="how ids are written: docs/concepts/inputs.md",
        )


@dataclass(frozen=True)
class IdKinds:
    """The key types of what a request names. What the feature service does not look up is text.

    `passes`: units of a replay are taken, too, `<unit>#<pass>`: each pass assigns anew. Nothing is looked up by a unit.
    """

    entity: str = TEXT
    unit: str = TEXT
    item: str = TEXT
    passes: bool = False

    def unit_fault(self, unit: str) -> str:
        """See `fault_of`."""
        return fault_of(self.unit, _PASS.sub("", unit) if self.passes else unit)

    @classmethod
    def of(cls, definitions: Mapping[str, Any], entity: str, unit: str, item: str | None) -> IdKinds:
        """From a serialized `ServiceInfo` and the names of the sides; `unit` empty = the entity."""
        known = {str(view["entity"]): str(view["key_type"]) for view in definitions.get("views", ())}
        entities, units, items = (known.get(name or "", TEXT) for name in (entity, unit or entity, item))
        return cls(entities, units, items)
