"""A service as files of this machine: its memory beside the folders of its rollouts, under one lock.

Invariant: a token stands for the bytes of all of it, the wish included; who writes or acts with one that does not hold
any more is refused, and who holds the lock is not interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from serinus.core.errors import Conflict
from serinus.core.rollout.memory import ServiceMemory, Wanted, recalled
from serinus.core.rollout.ports import Change, Snapshot, Stored
from serinus.core.rollout.spec import Revision
from serinus.files import DISK, Disk
from serinus.rollout.local_store import LocalRollouts, mark_at, read_document


class LocalService:
    """`ServiceStore` of one service; its memory is in `path`, and `wanted` reads the wish.

    `mark` is another value as soon as the wish is: it is asked around every write and act, so it should cost little.
    Where nothing is remembered yet, what an earlier release left is: the revision in `first`, and the rollouts.
    """

    def __init__(
        self,
        path: Path,
        first: Path,
        rollouts: LocalRollouts,
        wanted: Callable[[], Wanted],
        *,
        mark: Callable[[], object] | None = None,
        disk: Disk = DISK,
    ) -> None:
        self._path, self._first, self._rollouts, self._wanted, self._disk = path, first, rollouts, wanted, disk
        self._mark = mark or wanted
        self._inside = False

    def load(self) -> Snapshot:
        """See `ServiceStore`. A wish that comes meanwhile makes the token an old one."""
        with self._rollouts.alone():
            token = self._token()
            return Snapshot(token, self.memory(), self._wanted(), self._stored())

    def memory(self) -> ServiceMemory:
        """What the service remembers; nothing before its first tick."""
        if self._path.exists():
            return read_document(self._path, ServiceMemory)
        first = next(iter(self.revisions()), None)
        if first is None:
            return ServiceMemory()
        return recalled(first, [(one.spec, one.state) for one in self._stored()], self._wanted())

    def revisions(self) -> tuple[Revision, ...]:
        """All that its memory names, without a look at rollouts or wish."""
        if self._path.exists():
            return read_document(self._path, ServiceMemory).revisions
        return (read_document(self._first, Revision),) if self._first.exists() else ()

    def had(self) -> Iterator[Revision]:
        """Every revision that a rollout was about, newest first, and those that its memory names."""
        for spec in map(self._rollouts.spec, reversed(self._rollouts.names())):
            yield from (spec.candidate, spec.stable)
        yield from self.revisions()

    def save(self, change: Change, token: str) -> str:
        """See `ServiceStore`."""
        with self.fence(token):
            if change.made is not None:
                self._rollouts.put_spec(change.made)
            if change.state is not None:
                self._rollouts.put_state(change.state)
            if change.intents is not None:
                self._rollouts.put_intents(*change.intents)
            if change.memory is not None:
                self._disk.replace(self._path, change.memory.model_dump_json(indent=1) + "\n")
            return self._token()

    @contextmanager
    def fence(self, token: str) -> Iterator[None]:
        """See `ServiceStore`. Those who would change the service wait at its lock, which is taken once: see `save`."""
        with nullcontext() if self._inside else self._rollouts.alone():
            if self._token() != token:
                raise Conflict("the service was changed meanwhile", cause="by a person, a new wish or another engine")
            before, self._inside = self._inside, True
            try:
                yield
            finally:
                self._inside = before

    def _stored(self) -> tuple[Stored, ...]:
        store = self._rollouts
        return tuple(Stored(store.spec(name), store.state(name), store.intents(name)) for name in store.names())

    def _token(self) -> str:
        marks = (mark_at(self._path), self._mark(), self._rollouts.marks())
        return hashlib.sha256(repr(marks).encode()).hexdigest()
