"""The files of KPI rows: each reduction adds one, and the newest are merged when they outweigh the one before them.

Invariant: rows stay in the order in which reductions closed them, each with the number of its reduction, whatever was
merged; so a reader that has seen those of some reductions finds the others. There are at most about log2(rows) files,
and a row is written anew about that often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serinus.evidence.joins import KEPT
from serinus.evidence.matching import column
from serinus.evidence.rows import upgraded
from serinus.evidence.state import KpiFile, StateFolder

GENERATION = pa.field("generation", pa.int64())
_PART_ROWS = 50_000


def closed_after(folder: StateFolder, empty: pa.Table, generation: int) -> pa.Table:
    """Rows closed by the reductions after one, in order, with a column of their numbers; `empty` has the columns.

    Needs no lock: a reduction that merges files meanwhile is followed.
    """
    while True:
        state = folder.load()
        files = [one for one in state.kpi_files if one.until > generation]
        try:
            # The newest first: they are the ones that are merged soon.
            tables = [table for one in reversed(files) for table in reversed(list(_parts(folder, one, generation)))]
        except FileNotFoundError:
            if folder.load().generation == state.generation:
                raise
            continue
        found = pa.concat_tables([empty, *reversed(tables)], promote_options="permissive")
        return found.filter(pc.greater(found[GENERATION.name], generation))


@dataclass(frozen=True)
class Keep:
    """How long KPI rows are kept: until one has closed after them that is `seconds` of event time newer, and longer
    while somebody reads those `since` a moment. So a service that nobody asks any more keeps its last ones, and rows
    whose event time goes back, as those of a replay after live traffic, are not taken for old ones.
    """

    seconds: float = math.inf
    since: Callable[[], float] = lambda: math.inf

    def before(self, files: Sequence[KpiFile]) -> list[float]:
        """For each of these files, in order of closing: the event time (epoch s) before which rows of it may go.

        Asks who reads only where some may.
        """
        newer = list(accumulate((one.last for one in reversed(files[1:])), max, initial=-math.inf))
        bounds = [one - self.seconds for one in reversed(newer)]
        if all(one.first >= bound for one, bound in zip(files, bounds, strict=False)):
            return [-math.inf] * len(files)
        since = self.since()
        return [min(bound, since) for bound in bounds]


def merged(
    folder: StateFolder, files: Sequence[KpiFile], name: str, empty: pa.Table, keep: Keep
) -> tuple[KpiFile, ...]:
    """These files with the newest made one where that is due. Rows too old go with their file, or when it is merged."""
    files = [one for one, before in zip(files, keep.before(files), strict=True) if one.last >= before]
    count = _due(files)
    if count < 2:
        return tuple(files)
    inputs = files[-count:]
    grown, first = folder.growing(name, _columns(folder, inputs, empty)), math.inf
    for one, before in zip(inputs, keep.before(inputs), strict=True):
        for part in _parts(folder, one):
            kept = part.filter(pc.greater_equal(part["as_of"], before)) if one.first < before else part
            first = min(first, float(column(kept, "as_of").min(initial=math.inf)))
            grown.add(kept)
    last, since, until = max(one.last for one in inputs), inputs[0].since, inputs[-1].until
    whole = KpiFile(name=grown.close(), rows=grown.rows, first=first, last=last, since=since, until=until)
    return (*files[:-count], whole)


def ids_since(folder: StateFolder, files: Sequence[KpiFile], moment: float) -> Iterator[pa.Table]:
    """The ids, request ids and event times of the rows since an event time (epoch s), and of some before it."""
    for one in files:
        if one.last >= moment:
            yield from folder.parts(one.name, _PART_ROWS, ["id", "request_id", "as_of"], ("as_of", moment))


def _due(files: Sequence[KpiFile]) -> int:
    """How many of the newest become one: those that together are more than half of the one before them."""
    count, rows = 0, 0
    for one in reversed(files):
        if count and one.rows >= 2 * rows:
            break
        count, rows = count + 1, rows + one.rows
    return count


def _columns(folder: StateFolder, files: Sequence[KpiFile], empty: pa.Table) -> pa.Table:
    """All columns that one of the files has: a card may have had other KPIs."""
    tables = [_whole(one, folder.schema(one.name).empty_table()) for one in files]
    return pa.concat_tables([empty, *tables], promote_options="permissive")


def _parts(folder: StateFolder, file: KpiFile, generation: int = 0) -> Iterator[pa.Table]:
    for part in folder.parts(file.name, _PART_ROWS, least=(GENERATION.name, generation + 1)):
        yield _whole(file, part)


def _whole(file: KpiFile, table: pa.Table) -> pa.Table:
    """As this release writes it: the one before had no number in a row, and a file a reduction."""
    if GENERATION.name not in table.column_names:
        table = table.append_column(GENERATION, pa.array(np.full(len(table), file.since)))
    return upgraded(KEPT, table)
