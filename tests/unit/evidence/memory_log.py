"""An event log in memory, and short makers of rows, for the tests of reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import pyarrow as pa

from serinus.core.events import Decided, Event, Exposure, Inputs, Outcome, Scores, Stream, exposure_id
from serinus.core.names import ServiceRef
from serinus.evidence.log import Damage, Segment
from serinus.evidence.rows import SCHEMAS

DAY = 86_400.0
START = 1_317_600_000.0  # 2011-10-03
TOY = ServiceRef("default", "toy")


class MemoryLog:
    """`EventLog` without a disk; `reads` counts how often a segment was read."""

    def __init__(self) -> None:
        self.tables: dict[Stream, dict[str, tuple[Segment, pa.Table]]] = {stream: {} for stream in Stream}
        self.reads: dict[str, int] = {}

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """See `EventSink`."""
        if events:
            name = f"{stream}-{len(self.reads):05d}"
            self.reads[name] = 0
            table = pa.Table.from_pylist([asdict(one) for one in events], schema=SCHEMAS[stream])
            self.tables[stream][name] = (Segment(stream, name, len(events)), table)

    def compact(self, stream: Stream) -> None:
        """All segments of a stream as one."""
        held = list(self.tables[stream].values())
        leaves = tuple(leaf for one, _ in held for leaf in (one.inputs or (one.name,)))
        name = f"{stream}-{len(self.reads):05d}c"
        self.reads[name] = 0
        table = pa.concat_tables([table for _, table in held])
        self.tables[stream] = {name: (Segment(stream, name, len(table), leaves), table)}

    def segments(self, stream: Stream) -> list[Segment]:
        """See `EventLog`."""
        return [segment for segment, _ in self.tables[stream].values()]

    def read(self, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
        """See `EventLog`."""
        self.reads[segment.name] += 1
        table = self.tables[segment.stream][segment.name][1]
        return table.select(list(columns)) if columns else table

    def damage(self) -> Damage:
        """None."""
        return Damage()


def exposure(request: str, at: float = START, **changes: object) -> Exposure:
    """An answered request of unit u; its writer's sequence must be given where it matters."""
    values: dict[str, object] = {
        "id": exposure_id(request, str(changes.get("revision", "toy-v1"))), "request_id": request,
        "service": "default/toy", "revision": "toy-v1", "version": "1", "route": "", "forced_arm": "",
        "entity": "e", "unit": "u", "bucket": 1, "bucket_check": "ok", "at": at, "as_of": at, "items": 3,
        "cold_start": False, "unknown_items": 0, "lookups": 4, "defaulted": 0, "latency_ms": 2.0, "error": "",
        "covariates": (0.0,), "writer": "w", "sequence": 0,
    }  # fmt: skip
    return Exposure(**(values | changes))  # type: ignore[arg-type]


def scores(request: str, revision: str = "toy-v1") -> Scores:
    """What was shown for a request: a, b, c with .6, .3, .1."""
    return Scores(exposure_id(request, revision), request, ("a", "b", "c"), (0.6, 0.3, 0.1))


def decided(request: str, revision: str = "toy-v1") -> Decided:
    """What was decided for a request: its items as it named them."""
    return Decided(exposure_id(request, revision), request, revision, START, "", (), (), 1.0, (0, 1, 2))


def inputs(request: str, revision: str = "toy-v1") -> Inputs:
    """What the model was fed for item b of a request."""
    return Inputs(exposure_id(request, revision), request, revision, START, START, 1, "b", (0.5, 2.0), '{"amount":3.0}')


def outcome(identifier: str, request: str = "", item: str = "", at: float = START, **changes: object) -> Outcome:
    """Something bought; `at` is when it happened and arrived."""
    values: dict[str, object] = {
        "id": identifier, "name": "bought", "request_id": request, "unit": "u", "item": item, "value": 1.0,
        "as_of": at, "at": at,
    }  # fmt: skip
    return Outcome(**(values | changes))  # type: ignore[arg-type]


def row_of(stream: Stream, identifier: str) -> Event:
    """A row of any stream, by its id."""
    makers: dict[Stream, Callable[[str], Event]] = {
        Stream.EXPOSURES: exposure,
        Stream.SCORES: scores,
        Stream.DECISIONS: decided,
        Stream.INPUTS: inputs,
        Stream.OUTCOMES: outcome,
    }
    return replace(makers[stream]("r"), id=identifier)
