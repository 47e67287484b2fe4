"""A toy service for serving's tests: customers, items, a linear model, and an online store in memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serinus.core.calibration import Calibration
from serinus.core.errors import Unavailable
from serinus.core.events import BESIDE, Event, Exposure, Scores, Stream
from serinus.features.inputs import Clock, DaysSince, Given, Input, Value
from serinus.features.online import OnlineReader, StoredRow, Wanted, entity_key
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo
from serinus.model.bundle import Bundle, FeatureSource, Golden, Lineage, Manifest, RequestShape
from serinus.model.scorers import LinearScorer

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
MIDNIGHT = NOON.replace(hour=0).timestamp()
SALT = "00ff00ff00ff00ff"


def _view(name: str, entity: str, ttl: float, features: dict[str, str]) -> ViewInfo:
    listed = tuple(FeatureInfo(name=feature, type=kind) for feature, kind in features.items())
    return ViewInfo(name=name, entity=entity, join_key=entity, key_type="STRING", ttl_seconds=ttl, features=listed)


SERVICE = ServiceInfo(
    project="toy",
    name="toy_service",
    views=(
        _view("daily", "item", 86_400.0, {"lines": "Float64"}),
        _view("profile", "customer", 0.0, {"visits": "Float64", "last": "UnixTimestamp"}),
    ),
)
RANKING_INPUTS: tuple[Input, ...] = (
    Value(name="c_visits", of="profile:visits"),
    DaysSince(name="c_recency", of="profile:last", default=9.0),
    Value(name="i_lines", of="daily:lines", default=0.5),
    Clock(name="t_hour", part="hour"),
)
SCORING_INPUTS: tuple[Input, ...] = (
    Value(name="c_visits", of="profile:visits"),
    Given(name="g_amount", of="amount", default=2.0),
)


class MemoryStore:
    """A `RawStore`; `broken` makes it unreachable."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, StoredRow]] = {"profile": {}, "daily": {}}
        self.broken = False

    def put(self, view: str, key: str, event_time: float, **values: float) -> None:
        """Numbers as doubles, `last` as a time."""
        info = next(one for one in SERVICE.views if one.name == view)
        name = entity_key(info, key)
        assert name is not None
        raw = {n: _time(v) if n == "last" else b"\x29" + struct.pack("<d", v) for n, v in values.items()}
        self.rows[view][name] = StoredRow(raw, event_time)

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """See `RawStore`."""
        if self.broken:
            raise Unavailable("the store is away")
        return [
            {key: self.rows[one.view.name][key] for key in one.keys if key in self.rows[one.view.name]}
            for one in wanted
        ]


def _time(seconds: float) -> bytes:
    from feast.protos.feast.types.Value_pb2 import Value as Proto

    return bytes(Proto(unix_timestamp_val=int(seconds)).SerializeToString())


def store() -> MemoryStore:
    """Customer 1 and items a, b, c; item b's row has expired."""
    made = MemoryStore()
    made.put("profile", "1", MIDNIGHT, visits=3.0, last=MIDNIGHT - 2 * 86_400)
    for item, lines, age in (("a", 1.0, 0), ("b", 9.0, 3), ("c", 4.0, 0)):
        made.put("daily", item, MIDNIGHT - age * 86_400, lines=lines)
    return made


def reader(of: MemoryStore | None = None) -> OnlineReader:
    """Over the toy store."""
    return OnlineReader(of or store(), SERVICE)


def bundle(kind: str = "ranking") -> Bundle:
    """A linear model over the toy inputs; its golden rows hold."""
    inputs = RANKING_INPUTS if kind == "ranking" else SCORING_INPUTS
    width = len(inputs)
    scorer = LinearScorer(np.zeros(width), np.ones(width), np.linspace(0.1, 0.4, width), -2.0)
    draft = Manifest(
        problem="toy",
        problem_kind="ranking" if kind == "ranking" else "scoring",
        entity="customer",
        item="item" if kind == "ranking" else None,
        candidate="linear",
        scorer="linear",
        inputs=tuple(one.model_dump() for one in inputs),
        features=FeatureSource(
            service="toy_service", service_hash=SERVICE.hash, columns=(), definitions=SERVICE.model_dump()
        ),
        request=RequestShape(max_items=5) if kind == "ranking" else RequestShape(context=("amount",)),
        calibration=Calibration(sampling_rate=0.5),
        profile=(),
        golden=Golden(rows=(), probabilities=()),
        lineage=Lineage(),
    )
    rows = np.eye(width, dtype=np.float32)
    expected = Bundle(draft, scorer).probabilities(rows)
    golden = Golden(rows=tuple(map(tuple, rows.tolist())), probabilities=tuple(expected.tolist()))
    return Bundle(draft.model_copy(update={"golden": golden}), scorer)


class MemoryLog:
    """`ExposureLog` and `EventSink` in lists; `refuses` makes appends fail."""

    def __init__(self) -> None:
        self.exposures: list[Exposure] = []
        self.beside: dict[Stream, list[Any]] = {stream: [] for stream in BESIDE}
        self.events: dict[Stream, list[Event]] = {stream: [] for stream in Stream}
        self.refuses = False

    def put(self, exposure: Exposure, beside: Mapping[Stream, Event]) -> bool:
        """See `ExposureLog`."""
        if self.refuses:
            return False
        self.exposures.append(exposure)
        for stream, row in beside.items():
            self.beside[stream].append(row)
        return True

    @property
    def scores(self) -> list[Scores]:
        """Of those exposures."""
        return self.beside[Stream.SCORES]

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """See `EventSink`."""
        if self.refuses:
            raise Unavailable("the disk is full")
        self.events[stream] += events


class Counting:
    """`Sequence` from 0."""

    writer = "toy.0"

    def __init__(self) -> None:
        self.given = 0

    def next(self) -> int:
        """See `Sequence`."""
        self.given += 1
        return self.given - 1
