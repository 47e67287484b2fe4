"""Adds a column to the exposure, in the one place where columns are said, and follows it through the log.

`one_more_column.py FOLDER CARD`: a process of its own, for the row types are read when their readers are imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import yaml

from serinus.core import events
from serinus.core.events import Before, Stream, Use


@dataclass(frozen=True, slots=True)
class Exposure(events.Exposure):
    mood: Annotated[tuple[str, ...], Use.KPI, Before(name="temper")]


events.ROW_TYPES[Stream.EXPOSURES] = Exposure

from memory_log import START, exposure  # noqa: E402

from serinus.core.card import parse_card  # noqa: E402
from serinus.evidence.entries import decoded, encoded  # noqa: E402
from serinus.evidence.parquet_log import ParquetEventLog  # noqa: E402
from serinus.evidence.plan import KpiPlan  # noqa: E402
from serinus.evidence.reduce import KpiReducer  # noqa: E402
from serinus.evidence.state import StateFolder  # noqa: E402

usual = exposure("r")
row = Exposure(**{one.name: getattr(usual, one.name) for one in fields(usual)}, mood=("calm", "ü"))
wanted = ["calm", "ü"]

entry = {name.encode(): value for name, value in encoded(Stream.EXPOSURES, [row]).items()}
assert decoded(Stream.EXPOSURES, entry)["mood"].to_pylist() == [wanted]
entry[b"temper"] = entry.pop(b"mood")
assert decoded(Stream.EXPOSURES, entry)["mood"].to_pylist() == [wanted]

log = ParquetEventLog(Path(sys.argv[1]) / "log")
log.append(Stream.EXPOSURES, [row])
assert log.read(log.segments(Stream.EXPOSURES)[0], ["mood"]).to_pylist() == [{"mood": wanted}]

card = parse_card(yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")))
for seconds in (-1.0, 0.0):  # first it stays open, and then its first window closes
    reducer = KpiReducer(log, StateFolder(Path(sys.argv[1]) / "reduced"), KpiPlan.of(card))
    reducer.reduce(START + seconds)
assert reducer.rows()["mood"].to_pylist() == [wanted]
