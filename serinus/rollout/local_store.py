"""Rollouts as folders of this machine: what was asked in one file, what people want in another, what is in a third.

Invariant: each file has one kind of writer and is replaced as a whole; a state is written only over the one it was made
from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from serinus.core.errors import Conflict, NotFound
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
        with self._alone(spec.name):
            path = self._folder / spec.name / _SPEC
            if path.exists():
                raise Conflict(f"there is a rollout {spec.name} already", hint="`serinus rollout retry` tries it again")
            self._disk.replace(path, spec.model_dump_json(indent=1) + "\n")

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
        with self._alone(state.name):
            if self.state(state.name) != over:
                raise Conflict(f"rollout {state.name} was changed by another engine", cause="it is one step further")
            self._disk.replace(self._folder / state.name / _STATE, state.model_dump_json(indent=1) + "\n")

    def intents(self, name: str) -> Intents:
        """See `RolloutStore`."""
        return self._parsed(self._folder / name / _INTENTS, Intents) or Intents()

    def intend(self, name: str, change: Callable[[Intents], Intents]) -> Intents:
        """See `RolloutStore`."""
        self.spec(name)
        with self._alone(name):
            found = change(self.intents(name))
            self._disk.replace(self._folder / name / _INTENTS, found.model_dump_json(indent=1) + "\n")
        return found

    def _parsed(self, path: Path, kind: type[Document]) -> Document | None:
        """The document of a file, parsed once for as long as nobody replaces the file: a tick asks for all rollouts."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        mark = (found.st_mtime_ns, found.st_ino, found.st_size)
        known = self._known.get(path)
        if known is None or known[0] != mark:
            known = self._known[path] = (mark, kind.model_validate_json(path.read_bytes()))
        assert isinstance(known[1], kind)  # noqa: S101 - a path has one kind
        return known[1]

    def _alone(self, name: str) -> AbstractContextManager[None]:
        return locked(self._folder / name / _LOCK, disk=self._disk)
