"""The answer to a request, before any protocol.

Invariant: every answer says which revision gave it and what it had to do without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Flags:
    """What was not as it should be. `defaulted` counts, by view, the ids whose row was missing, expired or unfit; and
    `context.<name>` for each value that the caller left out. A view's name has no point.
    """

    bucket: str
    cold_start: bool = False
    unknown_items: tuple[str, ...] = ()
    defaulted: dict[str, int] = field(default_factory=dict)
    features_unavailable: bool = False
    not_logged: bool = False

    def as_dict(self) -> dict[str, Any]:
        """`bucket` always; the others only where they say something."""
        found: dict[str, Any] = {"bucket": self.bucket, "cold_start": self.cold_start}
        found |= {"unknown_items": list(self.unknown_items)} if self.unknown_items else {}
        found |= {"defaulted": self.defaulted} if self.defaulted else {}
        found |= {"features_unavailable": True} if self.features_unavailable else {}
        return found | ({"not_logged": True} if self.not_logged else {})


@dataclass(frozen=True)
class Answer:
    """Items in the order to show, with calibrated probabilities; kind scoring has one probability and no items."""

    request_id: str
    version: str
    revision: str
    items: tuple[str, ...]
    probabilities: tuple[float, ...]
    flags: Flags

    def as_dict(self) -> dict[str, Any]:
        """One prediction of KServe's V1 protocol."""
        head = {"request_id": self.request_id, "model_version": self.version, "revision": self.revision}
        if not self.items:
            return head | {"probability": self.probabilities[0], "flags": self.flags.as_dict()}
        ranked = [{"item": item, "probability": p} for item, p in zip(self.items, self.probabilities, strict=True)]
        return head | {"items": ranked, "flags": self.flags.as_dict()}
