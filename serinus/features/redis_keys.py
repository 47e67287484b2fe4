"""Feast's layout in Redis, and what Serinus adds to it: generations of rows and the pointer to the live one (D12).

Invariant: the fields of a row and their bytes are those of Feast's own materialization, and so is its key but for the
project, which is `<project>__<generation>`: a Feast client of a project so named reads that generation. Without a
pointer the project's own name is meant, as Feast itself wrote it. Every other key begins with `serinus:features:` and
a project's lie in one slot.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import mmh3

# How long the rows of a generation stay once another one is live: longer than any request reads.
GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Keys:
    """Of one project."""

    project: str

    @property
    def live(self) -> bytes:
        """The pointer: the live generation and, after a space, the snapshot that it is of."""
        return self._own("live")

    @property
    def loading(self) -> bytes:
        """The generation that a load writes; who finds another one there was taken over."""
        return self._own("loading")

    @property
    def generations(self) -> bytes:
        """A set: those that may have rows."""
        return self._own("generations")

    def written(self, generation: bytes) -> bytes:
        """A list: the entity keys of a generation, each there before its row is."""
        return self._own(f"written:{generation.decode()}")

    def suffix(self, generation: bytes) -> bytes:
        """What follows an entity key."""
        return self.project.encode() + (b"__" + generation if generation else b"")

    def _own(self, name: str) -> bytes:
        return f"serinus:features:{{{self.project}}}:{name}".encode()


def generation_of(pointer: bytes | None) -> bytes:
    """Empty when nothing was loaded, or by Feast itself."""
    return (pointer or b"").partition(b" ")[0]


@lru_cache(maxsize=256)
def fields(view: str, features: tuple[str, ...]) -> list[bytes]:
    """The names of a view's features in the hash, then that of its event time."""
    return [struct.pack("<I", mmh3.hash(f"{view}:{one}", signed=False)) for one in features] + [f"_ts:{view}".encode()]
