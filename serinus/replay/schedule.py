"""What a replay sends and when, by the recording's own clock.

Invariant: the schedule is a function of (recording, visits, passes) alone, so a replay that was interrupted goes on
with the same requests and outcomes under the same ids. Each pass has units of its own, `<unit>#<pass>`: repeating a
visit under the same unit and assignment would count one customer's luck several times (the A/A tests of
tests/unit/replay).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from serinus.core.names import ServiceRef
from serinus.replay.recording import CONTEXT, Recording


class Plan(BaseModel):
    """What decides the ids of a replay, and so must stay when it is taken up again.

    `recorded` says which run recorded the requests, from which data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: ServiceRef
    visits: int
    passes: int
    first_pass: int
    recorded: str = ""


@dataclass(frozen=True)
class Request:
    """One recorded request in one pass; `number` counts over all passes."""

    number: int
    request_id: str
    entity: str
    unit: str
    as_of: datetime
    items: tuple[str, ...]
    context: dict[str, float]


@dataclass(frozen=True)
class Happened:
    """One outcome in one pass, as the collector takes it."""

    at: datetime
    document: dict[str, Any]


@dataclass(frozen=True)
class Day:
    """One trading day of a pass: its requests, and the outcomes that become known on it."""

    pass_number: int
    day: date
    requests: tuple[Request, ...]


class Schedule:
    """Passes over the first `visits` requests, numbered from `first_pass`: one log never sees a pass twice.

    Outcomes go on for `horizon` seconds after the last request.
    """

    def __init__(self, recording: Recording, plan: Plan, horizon: float) -> None:
        self._part, self._horizon = recording.first(plan.visits), horizon
        self.passes = range(plan.first_pass, plan.first_pass + plan.passes)
        self._items = self._part.rows.groupby("request", sort=True)["item"].agg(tuple)

    def __len__(self) -> int:
        return len(self._part.requests) * len(self.passes)

    @property
    def recording(self) -> Recording:
        """The requests of one pass."""
        return self._part

    @property
    def end(self) -> datetime:
        """When nothing of a pass is open any more."""
        last = self._part.requests["as_of"].max()
        return _utc(last + pd.Timedelta(seconds=self._horizon))

    def days(self) -> Iterator[Day]:
        """Pass after pass, day after day."""
        asked = self._part.requests
        for number in self.passes:
            for day, rows in asked.groupby(asked["as_of"].dt.date, sort=True):
                yield Day(number, day, tuple(self._request(number, i) for i in rows.index))

    def request_ids(self) -> list[str]:
        """Of all passes."""
        return [f"{one}#{number}" for number in self.passes for one in self._part.requests["request_id"]]

    def outcomes(self, pass_number: int) -> list[Happened]:
        """All of a pass, in order of time: those of its requests, and what its units did after their first request."""
        asked, happened = self._part.requests, self._part.outcomes
        ours = happened["request_id"].isin(asked["request_id"])
        first = asked.groupby("unit")["as_of"].min()
        loose = (happened["request_id"] == "") & (happened["at"] > happened["unit"].map(first))
        until = asked["as_of"].max() + pd.Timedelta(seconds=self._horizon)
        kept = happened[(ours | loose) & (happened["at"] <= until)]
        return [self._happened(pass_number, row) for row in kept.itertuples(index=False)]

    def _request(self, pass_number: int, position: int) -> Request:
        row = self._part.requests.iloc[position]
        names = [name for name in self._part.requests.columns if name.startswith(CONTEXT)]
        return Request(
            number=(pass_number - self.passes.start) * len(self._part.requests) + position,
            request_id=f"{row['request_id']}#{pass_number}",
            entity=row["entity"],
            unit=f"{row['unit']}#{pass_number}",
            as_of=_utc(row["as_of"]),
            items=tuple(item for item in self._items.loc[position] if item),
            context={name.removeprefix(CONTEXT): float(row[name]) for name in names},
        )

    @staticmethod
    def _happened(pass_number: int, row: Any) -> Happened:  # noqa: ANN401 - a row of the outcomes
        at = _utc(row.at)
        owner = f"{row.request_id}#{pass_number}" if row.request_id else ""
        who = owner or f"{row.unit}#{pass_number}@{at.timestamp():.0f}"
        document = {
            "id": f"{who}/{row.name}/{row.item}",
            "name": row.name,
            "unit": f"{row.unit}#{pass_number}",
            "value": float(row.value),
            "as_of": at.timestamp(),
        }
        document |= {"request_id": owner} if owner else {}
        return Happened(at, document | ({"item": row.item} if row.item else {}))


def _utc(moment: pd.Timestamp) -> datetime:
    found: datetime = moment.to_pydatetime()
    return found.replace(tzinfo=UTC)
