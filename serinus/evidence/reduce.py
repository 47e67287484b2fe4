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
from serinus.evidence.compaction import Tidy
from serinus.evidence.joins import (
    JOINED,
    KEPT,
    LISTS,
    OPEN_SCHEMA,
    RETRY_SECONDS,
    ScoresInStep,
    kpi_schema,
    no_open_rows,
)
from serinus.evidence.known import Closed, Known
from serinus.evidence.kpi_files import GENERATION, Keep, closed_after, merged
from serinus.evidence.log import EventLog, Segment
from serinus.evidence.matching import Outcomes, by_request, column, in_time
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.rows import SCHEMAS, conformed, upgraded
from serinus.evidence.state import Counters, Growing, KpiFile, State, StateFolder, Written
from serinus.evidence.values import Chunk, values

CHUNK_ROWS = 10_000

Bools = NDArray[np.bool_]


@dataclass
class _Run:
    """One reduction under way."""

    number: int
    now: float
    outcomes: Outcomes
    new_outcomes: Bools
    used: Bools
    closed: Growing
    open: Growing
    seen: set[int] = field(default_factory=set)  # hashes of ids: a million texts would be 150 MB
    ends: list[float] = field(default_factory=list)  # event times that bound the rows closed
    writers: dict[str, Written] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    ids: list[Closed] = field(default_factory=list)

    def count(self, name: str, by: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + by


class KpiReducer:
    """Reduces one service's log into `folder`, by one card's plan.

    `keep`: how long KPI rows are; all of them, if not told.
    """

    def __init__(
        self,
        log: EventLog,
        folder: StateFolder,
        plan: KpiPlan,
        tidy: Tidy | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._log, self._folder, self._plan, self._tidy, self._keep = log, folder, plan, tidy, keep or Keep()
        self._known = Known(folder, plan.longest)

    def reduce(self, now: float) -> Counters:
        """Reads what is new and closes what is due at `now` (epoch seconds of event time)."""
        with self._folder.alone() as state:
            # Exposures are listed before scores: what the writer puts on disk in between are scores without exposures.
            segments = {stream: self._unread(state, stream) for stream in Stream}
            self._known.begin(state)
            run = self._begin(state, segments[Stream.OUTCOMES], now)
            scores = ScoresInStep(self._log, segments[Stream.SCORES], self._held(Stream.SCORES, state.scores_file))
            for exposures in self._chunks(state, run, segments[Stream.EXPOSURES], scores):
                self._close(run, exposures)
            after = self._finish(state, run, segments, scores.left(run.seen))
            self._folder.save(after)
            self._known.end(after, run.ids, now)
            if self._tidy is not None:
                self._tidy(after.consumed)
        return after.counters

    def rows(self, group: Group | None = None) -> pa.Table:
        """KPI rows so far: those of `KEPT`, window (seconds), closed_at, and KPI columns, null outside their group."""
        table = self.closed_after(0).drop_columns([GENERATION.name])
        return table if group is None else table.filter(pc.equal(table["window"], group.seconds))

    def closed_after(self, generation: int) -> pa.Table:
        """The KPI rows of the reductions after that one, in order, with a column `generation`: which closed them."""
        return closed_after(self._folder, self.no_rows(), generation)

    def _unread(self, state: State, stream: Stream) -> list[Segment]:
        consumed = set(state.consumed.get(stream.value, ()))
        listed = self._log.segments(stream)
        return [
            one for one in listed if one.name not in consumed and not (one.inputs and consumed.issuperset(one.inputs))
        ]

    def _begin(self, state: State, segments: list[Segment], now: float) -> _Run:
        held = self._held(Stream.OUTCOMES, state.waiting_file)
        fresh = [self._log.read(one) for one in segments]
        table = pa.concat_tables([*([held] if held is not None else []), *fresh]) if fresh or held is not None else None
        if table is None:
            table = SCHEMAS[Stream.OUTCOMES].empty_table()
        first = _first_of_each(table["id"])
        new = np.arange(len(table)) >= (len(held) if held is not None else 0)
        number = state.generation + 1
        run = _Run(
            number,
            now,
            Outcomes(table.take(pa.array(first)).combine_chunks()),
            new[first],
            np.zeros(len(first), dtype=np.bool_),
            self._folder.growing(f"kpi-{number:08d}.parquet", self.no_rows()),
            self._folder.growing(f"open-{number:08d}.parquet", no_open_rows()),
        )
        run.count("duplicates", len(table) - len(first))
        run.count("outcomes", int(run.new_outcomes.sum()))
        run.writers = dict(state.writers)
        return run

    def _held(self, stream: Stream, file: str) -> pa.Table | None:
        return conformed(stream, self._folder.get(file)) if file else None

    def _chunks(self, state: State, run: _Run, segments: list[Segment], scores: ScoresInStep) -> Iterator[pa.Table]:
        """Open exposures of earlier runs, then new ones, joined with their scores."""
        if state.open_file:
            for held in self._folder.parts(state.open_file, CHUNK_ROWS):
                run.seen.update(map(hash, held["id"].to_pylist()))
                yield upgraded(JOINED, held)
        for table in self._gathered(segments):
            _count_written(run.writers, table)
            for start in range(0, len(table), CHUNK_ROWS):
                part = self._unseen(run, table.slice(start, CHUNK_ROWS))
                yield scores.join(part)

    def _gathered(self, segments: list[Segment]) -> Iterator[pa.Table]:
        """Segments in order, small ones together: a predictor writes ten a second."""
        parts: list[pa.Table] = []
        for segment in segments:
            parts.append(self._log.read(segment))
            if sum(map(len, parts)) >= CHUNK_ROWS or segment is segments[-1]:
                yield pa.concat_tables(parts)
                parts = []

    def _unseen(self, run: _Run, table: pa.Table) -> pa.Table:
        ids = table["id"].to_pylist()
        repeated = self._known.again(table).tolist()
        keep = []
        for position, one in enumerate(ids):
            if hash(one) not in run.seen and not repeated[position]:
                keep.append(position)
            run.seen.add(hash(one))
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
                run.closed.add(self._kpi_rows(run, group, Chunk(part, run.outcomes)))
                run.ids.append(Closed.of(part))
                ends = [*run.ends, float(as_of[due].min()), float(as_of[due].max())]
                run.ends = [min(ends), max(ends)]
                done[due] = position + 1
        left = np.flatnonzero(done < len(self._plan.groups))
        if len(left):
            marked = _replaced(exposures, "closed_groups", pa.array(done)).take(pa.array(left))
            if not any(group.needs_scores() for group in self._plan.groups[int(done[left].min()) :]):
                empty = {name: pa.array([[]] * len(left), type=kind) for name, kind in LISTS.items()}
                for name, lists in empty.items():
                    marked = _replaced(marked, name, lists)
            run.open.add(marked.select(OPEN_SCHEMA.names))

    def _mark_used(self, run: _Run, exposures: pa.Table) -> None:
        """Outcomes that found their exposure; those that came after its window closed are late."""
        pairs = by_request(exposures, run.outcomes)
        run.used[pairs.outcome] = True
        for name, seconds in self._plan.reach.items():
            mine = run.outcomes.called(name, pairs)
            kept = mine.where(in_time(mine, exposures, run.outcomes, seconds))
            late = np.setdiff1d(mine.outcome, kept.outcome)
            run.count("late", int(run.new_outcomes[late].sum()))

    def _kpi_rows(self, run: _Run, group: Group, chunk: Chunk) -> pa.Table:
        table = chunk.exposures.select([one.name for one in KEPT])
        table = table.append_column("window", pa.array(np.full(len(table), group.seconds)))
        table = table.append_column("closed_at", pa.array(np.full(len(table), run.now)))
        table = table.append_column(GENERATION, pa.array(np.full(len(table), run.number)))
        for name, found in values(self._plan, group, chunk).items():
            table = table.append_column(name, pa.array(found))
        return table

    def _finish(self, state: State, run: _Run, segments: dict[Stream, list[Segment]], scores: pa.Table) -> State:
        waiting = self._waiting(run)
        counters = state.counters.model_dump()
        for name, by in run.counts.items():
            counters[name] += by
        counters["open"], counters["waiting"] = run.open.rows, len(waiting)
        counters["lost"] = sum(one.lost for one in run.writers.values())
        number = run.number
        return State(
            generation=number,
            consumed={stream.value: self._consumed(state, stream, segments[stream]) for stream in Stream},
            kpi_files=self._kpi_files(state, run),
            open_file=run.open.close() if run.open.rows else "",
            waiting_file=self._put(f"waiting-{number:08d}.parquet", waiting),
            scores_file=self._put(f"scores-{number:08d}.parquet", scores),
            writers=run.writers,
            counters=Counters(**counters),
        )

    def _kpi_files(self, state: State, run: _Run) -> tuple[KpiFile, ...]:
        files = state.kpi_files
        if run.closed.rows:
            first, last = run.ends
            fresh = KpiFile(
                name=run.closed.close(),
                rows=run.closed.rows,
                first=first,
                last=last,
                since=run.number,
                until=run.number,
            )
            files += (fresh,)
        name = f"merged-{run.number:08d}.parquet"
        return merged(self._folder, files, name, self.no_rows(), self._keep)

    def _put(self, name: str, table: pa.Table) -> str:
        return self._folder.put(name, table) if len(table) else ""

    def _waiting(self, run: _Run) -> pa.Table:
        """Outcomes that may still find an exposure; the others are late (it has closed) or orphans (there is none)."""
        outcomes = run.outcomes.table
        loose = pc.equal(outcomes["request_id"], "").to_numpy(zero_copy_only=False)
        old = column(outcomes, "as_of") + self._plan.longest + RETRY_SECONDS < run.now
        unused = ~run.used & ~loose
        closed = np.zeros(len(unused), dtype=np.bool_)
        if unused.any():
            closed[unused] = self._known.closed(outcomes.filter(pa.array(unused)))
        run.count("late", int((closed & run.new_outcomes).sum()))
        run.count("orphans", int((unused & ~closed & old).sum()))
        keep = ~old & ~closed
        return outcomes.filter(pa.array(keep))

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
        return kpi_schema(self._plan.columns()).append(GENERATION).empty_table()


def _count_written(writers: dict[str, Written], table: pa.Table) -> None:
    """What has come of each writer's numbers; a row read twice counts once."""
    numbers = table["sequence"].to_numpy()
    for writer in pc.unique(table["writer"]).to_pylist():
        mine = numbers[pc.equal(table["writer"], writer).to_numpy(zero_copy_only=False)]
        writers[writer] = writers.get(writer, Written()).with_rows(mine)


def _first_of_each(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Positions of the first row of every id, in order."""
    _, first = np.unique(ids.combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    return np.sort(first)


def _read_before(segment: Segment, consumed: set[str]) -> bool:
    """By its own name, or as what it was compacted from."""
    return segment.name in consumed or bool(segment.inputs and consumed.issuperset(segment.inputs))


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
