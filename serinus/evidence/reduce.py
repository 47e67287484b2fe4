"""From the event log to KPI rows: each exposure is joined with its outcomes and reduced once, when its window closes.

Invariant: a segment is read once; a run that is killed leaves the state before it, and the next makes the same rows. A
duplicate, a late outcome and a lost exposure are counted, never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.events import Stream
from serinus.evidence.joins import EXPOSURE_TYPES, KEPT, LISTS, OPEN, OUTCOME_TYPES, RETRY_SECONDS, Known, ScoresInStep
from serinus.evidence.log import EventLog, Segment
from serinus.evidence.matching import by_request, column
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.state import Counters, KpiFile, State, StateFolder, Written
from serinus.evidence.values import Chunk, label_pairs, values

CHUNK_ROWS = 10_000

Bools = NDArray[np.bool_]


@dataclass
class _Run:
    """One reduction under way."""

    now: float
    outcomes: pa.Table
    new_outcomes: Bools
    used: Bools
    seen: set[int] = field(default_factory=set)  # hashes of ids: a million texts would be 150 MB
    closed: list[pa.Table] = field(default_factory=list)
    open: list[pa.Table] = field(default_factory=list)
    writers: dict[str, Written] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, by: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + by


class KpiReducer:
    """Reduces one service's log into `folder`, by one card's plan."""

    def __init__(self, log: EventLog, folder: StateFolder, plan: KpiPlan) -> None:
        self._log, self._folder, self._plan = log, folder, plan

    def reduce(self, now: float) -> Counters:
        """Reads what is new and closes what is due at `now` (epoch seconds of event time)."""
        with self._folder.alone() as state:
            segments = {stream: self._unread(state, stream) for stream in Stream}
            run = self._begin(state, segments[Stream.OUTCOMES], now)
            for exposures in self._chunks(state, run, segments):
                self._close(run, exposures)
            after = self._finish(state, run, segments)
            self._folder.save(after)
        return after.counters

    def rows(self, group: Group | None = None) -> pa.Table:
        """KPI rows so far: columns `KEPT`, window (seconds), closed_at, and KPI columns, null outside their group."""
        state = self._folder.load()
        tables = [self._folder.get(one.name) for one in state.kpi_files]
        table = pa.concat_tables([self.no_rows(), *tables], promote_options="permissive")
        return table if group is None else table.filter(pc.equal(table["window"], group.seconds))

    def files(self) -> list[tuple[int, str]]:
        """The files of KPI rows with the number of the reduction that wrote each, in order."""
        return [(number, one.name) for number, one in enumerate(self._folder.load().kpi_files)]

    def file(self, name: str) -> pa.Table:
        """The rows of one file; they never change."""
        return self._folder.get(name)

    def _unread(self, state: State, stream: Stream) -> list[Segment]:
        consumed = set(state.consumed.get(stream.value, ()))
        listed = self._log.segments(stream)
        return [
            one for one in listed if one.name not in consumed and not (one.inputs and consumed.issuperset(one.inputs))
        ]

    def _begin(self, state: State, segments: list[Segment], now: float) -> _Run:
        held = self._folder.get(state.waiting_file) if state.waiting_file else None
        fresh = [self._log.read(one) for one in segments]
        table = pa.concat_tables([*([held] if held is not None else []), *fresh]) if fresh or held is not None else None
        if table is None:
            table = pa.table({name: pa.array([], type=kind) for name, kind in OUTCOME_TYPES.items()})
        first = _first_of_each(table["id"])
        new = np.arange(len(table)) >= (len(held) if held is not None else 0)
        run = _Run(now, table.take(pa.array(first)), new[first], np.zeros(len(first), dtype=np.bool_))
        run.count("duplicates", len(table) - len(first))
        run.count("outcomes", int(run.new_outcomes.sum()))
        run.writers = dict(state.writers)
        return run

    def _chunks(self, state: State, run: _Run, segments: dict[Stream, list[Segment]]) -> Iterator[pa.Table]:
        """Open exposures of earlier runs, then new ones, joined with their scores."""
        if state.open_file:
            held = self._folder.get(state.open_file)
            run.seen.update(map(hash, held["id"].to_pylist()))
            for start in range(0, len(held), CHUNK_ROWS):
                yield held.slice(start, CHUNK_ROWS)
        known = Known(self._folder, state)
        scores = ScoresInStep(self._log, segments[Stream.SCORES])
        for segment in segments[Stream.EXPOSURES]:
            table = self._log.read(segment)
            _count_written(run.writers, table)
            for start in range(0, len(table), CHUNK_ROWS):
                part = self._unseen(run, table.slice(start, CHUNK_ROWS), known)
                yield scores.join(part)

    def _unseen(self, run: _Run, table: pa.Table, known: Known) -> pa.Table:
        ids = table["id"].to_pylist()
        repeated = known.among(table)
        keep = []
        for position, one in enumerate(ids):
            if hash(one) not in run.seen and one not in repeated:
                run.seen.add(hash(one))
                keep.append(position)
        run.count("duplicates", len(ids) - len(keep))
        run.count("exposures", len(keep))
        return table if len(keep) == len(ids) else table.take(pa.array(keep, type=pa.int64()))

    def _close(self, run: _Run, exposures: pa.Table) -> None:
        """KPI rows of the groups that are due; the rest stays open."""
        self._mark_used(run, exposures)
        as_of, done = column(exposures, "as_of"), exposures["closed_groups"].to_numpy().copy()
        for position, group in enumerate(self._plan.groups):
            due = np.flatnonzero((done == position) & (as_of + group.seconds <= run.now))
            if len(due):
                part = exposures.take(pa.array(due))
                run.closed.append(self._kpi_rows(group, Chunk(part, run.outcomes), run.now))
                done[due] = position + 1
        left = np.flatnonzero(done < len(self._plan.groups))
        if len(left):
            marked = _replaced(exposures, "closed_groups", pa.array(done)).take(pa.array(left))
            if not any(group.needs_scores() for group in self._plan.groups[int(done[left].min()) :]):
                empty = {name: pa.array([[]] * len(left), type=kind) for name, kind in LISTS.items()}
                for name, lists in empty.items():
                    marked = _replaced(marked, name, lists)
            run.open.append(marked.select(OPEN))

    def _mark_used(self, run: _Run, exposures: pa.Table) -> None:
        """Outcomes that found their exposure; those that came after its window closed are late."""
        pairs = by_request(exposures, run.outcomes)
        run.used[pairs.outcome] = True
        longest = max((group.seconds for group in self._plan.groups if group.needs_scores()), default=0.0)
        kept = label_pairs(self._plan, longest, Chunk(exposures, run.outcomes))
        late = np.setdiff1d(pairs.outcome, kept.outcome)
        named = pc.equal(run.outcomes["name"], self._plan.label).to_numpy(zero_copy_only=False)
        run.count("late", int((named[late] & run.new_outcomes[late]).sum()))

    def _kpi_rows(self, group: Group, chunk: Chunk, now: float) -> pa.Table:
        table = chunk.exposures.select(KEPT)
        table = table.append_column("window", pa.array(np.full(len(table), group.seconds)))
        table = table.append_column("closed_at", pa.array(np.full(len(table), now)))
        for name, found in values(self._plan, group, chunk).items():
            table = table.append_column(name, pa.array(found))
        return table

    def _finish(self, state: State, run: _Run, segments: dict[Stream, list[Segment]]) -> State:
        generation = state.generation + 1
        kpi_files = state.kpi_files
        if run.closed:
            table = pa.concat_tables([self.no_rows(), *run.closed], promote_options="permissive")
            as_of = column(table, "as_of")
            name = self._folder.put(f"kpi-{generation:08d}.parquet", table)
            kpi_files += (KpiFile(name=name, rows=len(table), first=float(as_of.min()), last=float(as_of.max())),)
        still_open = pa.concat_tables(run.open) if run.open else None
        waiting = self._waiting(state, run)
        counters = state.counters.model_dump()
        for name, by in run.counts.items():
            counters[name] += by
        counters["open"] = len(still_open) if still_open is not None else 0
        counters["waiting"] = len(waiting)
        counters["lost"] = sum(max(one.next - one.rows, 0) for one in run.writers.values())
        return State(
            generation=generation,
            consumed={stream.value: self._consumed(state, stream, segments[stream]) for stream in Stream},
            kpi_files=kpi_files,
            open_file=self._folder.put(f"open-{generation:08d}.parquet", still_open) if still_open is not None else "",
            waiting_file=self._folder.put(f"waiting-{generation:08d}.parquet", waiting) if len(waiting) else "",
            writers=run.writers,
            counters=Counters(**counters),
        )

    def _waiting(self, state: State, run: _Run) -> pa.Table:
        """Outcomes that may still find an exposure; the others are late (it has closed) or orphans (there is none)."""
        loose = pc.equal(run.outcomes["request_id"], "").to_numpy(zero_copy_only=False)
        old = column(run.outcomes, "as_of") + self._plan.longest + RETRY_SECONDS < run.now
        unused = ~run.used & ~loose
        closed = np.zeros(len(unused), dtype=np.bool_)
        if unused.any():
            closed = unused & Known(self._folder, state).requests(run.outcomes)
        run.count("late", int((closed & run.new_outcomes).sum()))
        run.count("orphans", int((unused & ~closed & old).sum()))
        keep = ~old & ~closed
        return run.outcomes.filter(pa.array(keep))

    def _consumed(self, state: State, stream: Stream, read: list[Segment]) -> tuple[str, ...]:
        """Names read so far that the log still lists, directly or as what a compacted segment holds."""
        known = {*state.consumed.get(stream.value, ()), *(one.name for one in read)}
        known |= {name for one in read for name in one.inputs}
        kept = set()
        for one in self._log.segments(stream):
            if _read_before(one, known):
                kept |= {one.name, *one.inputs}
        return tuple(sorted(kept))

    def no_rows(self) -> pa.Table:
        """An empty table with all columns of KPI rows."""
        names = {**{name: EXPOSURE_TYPES[name] for name in KEPT}, "window": pa.float64(), "closed_at": pa.float64()}
        names |= {name: pa.float64() for name in self._plan.columns()}
        return pa.table({name: pa.array([], type=kind) for name, kind in names.items()})


def _count_written(writers: dict[str, Written], table: pa.Table) -> None:
    """Rows and highest number by writer; a row read twice counts once."""
    numbers = table["sequence"].to_numpy()
    for writer in pc.unique(table["writer"]).to_pylist():
        mine = numbers[pc.equal(table["writer"], writer).to_numpy(zero_copy_only=False)]
        known = writers.get(writer, Written())
        rows, after = known.rows + len(np.unique(mine)), max(known.next, int(mine.max()) + 1)
        writers[writer] = Written(rows=rows, next=after)


def _first_of_each(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Positions of the first row of every id, in order."""
    _, first = np.unique(ids.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    return np.sort(first)


def _read_before(segment: Segment, consumed: set[str]) -> bool:
    """By its own name, or as what it was compacted from."""
    return segment.name in consumed or bool(segment.inputs and consumed.issuperset(segment.inputs))


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
