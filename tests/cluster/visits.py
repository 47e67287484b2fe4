"""Requests for the first service: recorded visits, and units for every bucket.

Invariant: the same requests in every run; all are of one moment, the day after the last recorded one, so that every
feature is as the job has materialized it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from serinus.client.bucket import BUCKETS, HEADER, bucket_of
from serinus.replay.recording import read_recording
from tests.cluster.load import Ask, Asking
from tests.cluster.manifests import SALT, SERVICE
from tests.cluster.official import InferInput, InferRequest

AS_OF = "2011-12-10T10:00:00"
PREDICT = f"/v1/models/{SERVICE}:predict"
UNKNOWN = "987654321"


@dataclass(frozen=True)
class Visit:
    """Who asks about which items."""

    entity: str
    items: tuple[str, ...]

    def instance(self, **more: str) -> dict[str, Any]:
        """Of the V1 protocol."""
        return {"entity": self.entity, "items": list(self.items), "as_of": AS_OF, **more}

    def v2(self, request_id: str, unit: str = "") -> InferRequest:
        """Of the V2 protocol."""
        named = {"entity": [self.entity], "unit": [unit or self.entity], "items": list(self.items), "as_of": [AS_OF]}
        inputs = [InferInput(name, [len(values)], "BYTES", data=values) for name, values in named.items()]
        return InferRequest(SERVICE, inputs, request_id=request_id)


def recorded_visits(folder: Path, count: int) -> list[Visit]:
    """The last ones, of different customers."""
    recording = read_recording(folder, SERVICE)
    asked = recording.requests.drop_duplicates("entity", keep="last").tail(count)
    items = recording.rows[recording.rows["request"].isin(asked.index)].groupby("request")["item"].agg(tuple)
    return [
        Visit(str(row.entity), items.loc[number]) for number, row in zip(asked.index, asked.itertuples(), strict=True)
    ]


@lru_cache(maxsize=1)
def unit_of_bucket() -> Mapping[int, str]:
    """A unit for every bucket, of the form that the service's customers have."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < BUCKETS:
        number += 1
        found.setdefault(bucket_of(SALT, str(number)), str(number))
    return found


def bucket(number: int) -> dict[str, str]:
    """The header of a bucket."""
    return {HEADER: f"{number:03d}"}


def without_bucket(visits: Sequence[Visit], name: str = "") -> Asking:
    """The request of each number in turn, under ids of its own when `name` is given."""

    def ask(number: int) -> Ask:
        more = {"request_id": f"{name}-{number}"} if name else {}
        return Ask(PREDICT, visits[number % len(visits)].instance(**more))

    return ask


def of_every_unit(visits: Sequence[Visit], name: str) -> Asking:
    """As `without_bucket`, with a unit for each bucket in turn and its header."""

    def ask(number: int) -> Ask:
        at = number % BUCKETS
        asked = visits[number % len(visits)].instance(unit=unit_of_bucket()[at], request_id=f"{name}-{number}")
        return Ask(PREDICT, asked, bucket(at))

    return ask
