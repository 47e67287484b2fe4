"""Rollouts as folders of this machine: what was asked in one file, what people want in another, what is in a third.

Invariant: each file has one kind of writer and is replaced as a whole, under one lock of the service's rollouts; a
state is written only over what it was made from.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serinus.core.errors import Conflict, DataError, NotFound
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.files import DISK, Disk, locked

Document = TypeVar("Document", bound=BaseModel)
_SPEC, _INTENTS, _STATE, _LOCK = "spec.json", "intents.json", "state.json", ".lock"


class LocalRollouts:
    """`RolloutStore` below `folder`."""

    def __init__(self, folder: Path, *, disk: Disk = DISK) -> None:
        self._folder, self._disk = folder, disk
        self._known: dict[Path, tuple[tuple[int, int, int], BaseModel]] = {}

    def create(self, spec: RolloutSpec) -> None:
        """See `RolloutStore`."""
        with self.alone():
            self.put_spec(spec)

    def names(self) -> list[str]:
        """See `RolloutStore`."""
        specs = [self.spec(path.parent.name) for path in self._folder.glob(f"*/{_SPEC}")]
        return [one.name for one in sorted(specs, key=lambda one: (one.created_at, one.name))]

    def spec(self, name: str) -> RolloutSpec:
        """See `RolloutStore`."""
        found = self._parsed(self._folder / name / _SPEC, RolloutSpec)
        if found is None:
            known = ", ".join(sorted(one.parent.name for one in self._folder.glob(f"*/{_SPEC}"))) or "none"
            raise NotFound(f"no rollout {name}", hint=f"known: {known}")
        return found

    def state(self, name: str) -> RolloutState:
        """See `RolloutStore`."""
        spec = self.spec(name)
        return self._parsed(self._folder / name / _STATE, RolloutState) or RolloutState.first(spec)

    def save(self, state: RolloutState, over: RolloutState) -> None:
        """See `RolloutStore`."""
        with self.alone():
            if self.state(state.name) != over:
                raise Conflict(f"rollout {state.name} was changed by another engine", cause="it is one step further")
            self.put_state(state)

    def intents(self, name: str) -> Intents:
        """See `RolloutStore`."""
        return self._parsed(self._folder / name / _INTENTS, Intents) or Intents()

    def intend(self, name: str, change: Callable[[Intents], Intents]) -> Intents:
        """See `RolloutStore`."""
        self.spec(name)
        with self.alone():
            found = change(self.intents(name))
            self.put_intents(name, found)
        return found

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else writes anything of these rollouts meanwhile."""
        return locked(self._folder / _LOCK, disk=self._disk)

    def put_spec(self, spec: RolloutSpec) -> None:
        """Adds a rollout, for whoever is `alone`. Raises `Conflict` when its name is taken."""
        path = self._folder / spec.name / _SPEC
        if path.exists():
            raise Conflict(f"there is a rollout {spec.name} already", hint="`serinus rollout retry` tries it again")
        self._put(path, spec)

    def put_state(self, state: RolloutState) -> None:
        """Writes a state, for whoever is `alone`. Raises `NotFound`."""
        self.spec(state.name)
        self._put(self._folder / state.name / _STATE, state)

    def put_intents(self, name: str, intents: Intents) -> None:
        """Writes intents, for whoever is `alone`."""
        self._put(self._folder / name / _INTENTS, intents)

    def marks(self) -> list[tuple[str, int, int, int]]:
        """Of every file of every rollout: others as soon as one of them is replaced, made or deleted."""
        return [(str(path), *_mark_of(path.stat())) for path in sorted(self._folder.glob("*/*.json"))]

    def _put(self, path: Path, document: BaseModel) -> None:
        self._disk.replace(path, document.model_dump_json(indent=1) + "\n")

    def _parsed(self, path: Path, kind: type[Document]) -> Document | None:
        """The document of a file, parsed once for as long as nobody replaces the file: a tick asks for all rollouts."""
        mark = mark_at(path)
        if mark is None:
            return None
        known = self._known.get(path)
        if known is None or known[0] != mark:
            known = self._known[path] = (mark, read_document(path, kind))
        assert isinstance(known[1], kind)  # noqa: S101 - a path has one kind
        return known[1]


def read_document(path: Path, kind: type[Document]) -> Document:
    """A file's document. Raises `DataError` for what this release cannot read."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as fault:
        raise DataError(
            f"{path} cannot be read",
            cause="; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in fault.errors()[:3]),
            hint="damaged, or of another release: put it back from a copy, or go on with the release that wrote it",
        ) from fault


def mark_at(path: Path) -> tuple[int, int, int] | None:
    """Of a file: another one as soon as it is replaced; None while there is none."""
    try:
        return _mark_of(path.stat())
    except FileNotFoundError:
        return None


def _mark_of(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_mtime_ns, found.st_ino, found.st_size)
