"""Outcomes on their way in: the body of a batch, what was seen lately, and one write for many callers.

Invariant: a caller is told "accepted" only after its rows are on disk; rows that are refused leave nothing behind.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from serinus.client import written
from serinus.client.written import MOST_CHARACTERS, OUT_OF_RANGE, in_range, written_id
from serinus.core.errors import Unavailable
from serinus.core.events import Event, Stream, row_of
from serinus.core.ports import EventSink
from serinus.features.keys import IdKinds, fault_of

MOST_OUTCOMES = 1_000
REFUSED_SECONDS = 10.0
# Sums and squares of a log full of it stay finite.
MOST_WORTH = 1e15

Id = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
# By these an outcome finds its request: in the form in which the predictor took them.
JoinedBy = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), BeforeValidator(written_id)]


class OutcomeIn(BaseModel):
    """One thing a unit did: the columns of an outcome but for `at`, each with what may come over the wire.

    Times without a zone are UTC; numbers are epoch seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[Id, Field(description="unique; sending it again changes nothing")]
    name: Annotated[Id, Field(description="what happened, as the card names it")]
    request_id: Annotated[JoinedBy | None, Field(description="the request that it answers")] = None
    unit: Annotated[JoinedBy | None, Field(description="who did it; needed where no request is named")] = None
    item: JoinedBy | None = None
    value: Annotated[
        float, Field(strict=True, allow_inf_nan=False, ge=-MOST_WORTH, le=MOST_WORTH, description="what it was worth")
    ] = 0.0
    as_of: Annotated[datetime, BeforeValidator(written.moment), Field(description="when it happened")]

    @model_validator(mode="after")
    def _attributable(self) -> OutcomeIn:
        if self.request_id is None and self.unit is None:
            raise ValueError("needs request_id or unit")
        self.moment()
        return self

    def moment(self) -> float:
        """Epoch seconds. Raises `ValueError` outside 1970 to 2199."""
        if not in_range(self.as_of):
            raise ValueError(f"as_of {OUT_OF_RANGE}")
        return self.as_of.timestamp()

    def row(self, at: float) -> Event:
        """The row of the event log: what was sent, under the same names, and when it arrived."""
        return row_of(Stream.OUTCOMES, self.model_dump(exclude_none=True) | {"as_of": self.moment(), "at": at})


class Batch(BaseModel):
    """The body of `POST /v1/outcomes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Not a tuple: pydantic counts the valid ones of it, and would tell of a single bad outcome twice.
    outcomes: Annotated[list[OutcomeIn], Field(min_length=1, max_length=MOST_OUTCOMES)]

    def wrong_ids(self, kinds: IdKinds) -> dict[str, str]:
        """Units and items in another form than the keys that they name, by field: they would join nothing."""
        found: dict[str, str] = {}
        for place, one in enumerate(self.outcomes):
            unit = "" if one.unit is None else kinds.unit_fault(one.unit)
            item = "" if one.item is None else fault_of(kinds.item, one.item)
            told = ((f"outcomes[{place}].unit", unit), (f"outcomes[{place}].item", item))
            found |= {path: fault for path, fault in told if fault}
        return found


@dataclass(frozen=True)
class OutcomeNames:
    """What the card knows: its `label` and the names of its KPIs' outcomes. Without any, every name is taken."""

    label: str = ""
    others: tuple[str, ...] = ()

    def faults(self, batch: Batch) -> dict[str, str]:
        """By field: names that nothing would count, and labels that take something back."""
        known = sorted({self.label, *self.others} - {""})
        found = {}
        for position, one in enumerate(batch.outcomes):
            if known and one.name not in known:
                found[f"outcomes[{position}].name"] = f"the card knows {', '.join(known)}, not {one.name[:100]}"
            elif one.name == self.label and one.value < 0:
                problem = f"{one.name} is the label, which happened or did not: its value cannot be below 0"
                found[f"outcomes[{position}].value"] = problem
        return found


EVERY_NAME = OutcomeNames()


class Accepted(BaseModel):
    """The answer: rows that were new, and rows that this collector had seen."""

    accepted: int
    duplicates: int


class Overloaded(Unavailable):
    """More rows wait for the disk than may wait."""


@dataclass
class _Waiting:
    rows: list[Event]
    done: asyncio.Future[None]


class Intake:
    """Gathers the rows of all callers that wait, and appends them in one go, outside of the event loop."""

    def __init__(
        self,
        sink: EventSink,
        *,
        most_waiting: int = 50_000,
        remembered: int = 200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink, self._most, self._remembered = sink, most_waiting, remembered
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._queue: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._clock, self._refused_at = clock, -math.inf
        self.waiting = 0

    @property
    def healthy(self) -> bool:
        """Whether callers should come: after a refusal only once it is a while ago, for else nobody would try again."""
        return self._clock() - self._refused_at > REFUSED_SECONDS

    async def take(self, rows: Sequence[Event]) -> Accepted:
        """Returns when the new rows are on disk.

        Raises `Unavailable` when they cannot be written, `Overloaded` when too many wait.
        """
        first: dict[str, Event] = {}
        for row in rows:
            first.setdefault(row.id, row)
        fresh = [row for row in first.values() if row.id not in self._seen]
        if self.waiting + len(fresh) > self._most:
            raise Overloaded("too many outcomes wait for the disk", hint="send them again in a moment")
        if fresh:
            await self._written(fresh)
        return Accepted(accepted=len(fresh), duplicates=len(rows) - len(fresh))

    async def _written(self, fresh: list[Event]) -> None:
        waiting = _Waiting(fresh, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self.waiting += len(fresh)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_all())
        await asyncio.shield(waiting.done)

    async def _write_all(self) -> None:
        while self._queue:
            group, self._queue = self._queue, []
            rows = [row for one in group for row in one.rows]
            fault: Exception | None = None
            try:
                await asyncio.to_thread(self._sink.append, Stream.OUTCOMES, rows)
            except Exception as refused:  # noqa: BLE001 - whatever it is, every caller that waits must be told
                fault = refused
            self.waiting -= len(rows)
            self._refused_at = -math.inf if fault is None else self._clock()
            for one in group:
                if one.done.cancelled():
                    continue
                if fault is None:
                    one.done.set_result(None)
                else:
                    one.done.set_exception(fault)
            if fault is None:
                self._remember(rows)

    def _remember(self, rows: Sequence[Event]) -> None:
        for row in rows:
            self._seen[row.id] = None
            self._seen.move_to_end(row.id)
        while len(self._seen) > self._remembered:
            self._seen.popitem(last=False)

    async def drain(self) -> None:
        """Returns when nothing waits."""
        if self._writing is not None:
            await self._writing
