"""What a problem's own code hands to the system: cleaned tables with the count of every rule, and recorded requests.

Invariant: both are pure functions of the raw log and a seed. Random choices are made by hashes of row ids, never by a
stream of random numbers, so any part of the data gives the same choice as the whole (D20).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import pandas as pd

from serinus.core.card import Problem
from serinus.features import promises
from serinus.features.inputs import Inputs


@dataclass(frozen=True)
class Cleaned:
    """Tables by name, and each cleaning rule with the number of rows it concerned, in the order applied."""

    tables: Mapping[str, pd.DataFrame]
    rules: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Requests:
    """Recorded requests and the rows to score in each.

    `requests`: request_id (str, unique), entity, unit, as_of (datetime64[us], UTC without zone), sorted by request_id;
    and a number column for each value that the card's requests carry (framing.request.context).
    `rows`: request (position in `requests`), item (str; empty for kind scoring), label (0 or 1), value (float, what the
    positive was worth; 0 for negatives), sorted by request and item.
    """

    requests: pd.DataFrame
    rows: pd.DataFrame


def labelled_outcomes(asked: Requests, card: Problem) -> pd.DataFrame:
    """What happened, as far as the labels tell: each positive row becomes known when its label has matured.

    Columns: request_id (empty for what a unit does outside of a request), unit, name, item, value, at (datetime64[us]).
    """
    positive = asked.rows[asked.rows["label"] == 1]
    about = asked.requests.iloc[positive["request"].to_numpy()].reset_index(drop=True)
    return pd.DataFrame(
        {
            "request_id": about["request_id"],
            "unit": about["unit"].astype(str),
            "name": card.framing.label.name,
            "item": positive["item"].to_numpy(),
            "value": positive["value"].to_numpy(dtype=float),
            "at": about["as_of"] + card.framing.label.maturity,
        }
    )


class ProblemCode(Protocol):
    """`dataset.py` and `features.py` of a problem, seen as one."""

    inputs: Inputs

    def clean(self, raw: pd.DataFrame) -> Cleaned:
        """Tables of events from the accepted raw rows."""

    def requests(self, tables: Mapping[str, pd.DataFrame], card: Problem) -> Requests:
        """Recorded requests with their candidates and labels, of the card's splits."""

    def outcomes(self, tables: Mapping[str, pd.DataFrame], asked: Requests, card: Problem) -> pd.DataFrame:
        """What happened after the recorded requests, and when; see `labelled_outcomes`, the default."""

    def views(self, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
        """Source rows of each Feast view; `event_timestamp` is the day on which a row may first be used."""


class LoadedProblemCode:
    """A problem's two modules behind `ProblemCode`."""

    def __init__(self, dataset: ModuleType, features: ModuleType) -> None:
        self._dataset, self._features = dataset, features
        self.inputs = cast(Inputs, features.INPUTS)

    def clean(self, raw: pd.DataFrame) -> Cleaned:
        """See `ProblemCode`."""
        found = self._dataset.clean(raw)
        promises.keep(promises.tables(getattr(found, "tables", None)), self._where(self._dataset, "clean"))
        return cast(Cleaned, found)

    def requests(self, tables: Mapping[str, pd.DataFrame], card: Problem) -> Requests:
        """See `ProblemCode`."""
        found = cast(Requests, self._dataset.requests(tables, card))
        promises.keep(promises.requests(found.requests, found.rows, card), self._where(self._dataset, "requests"))
        return found

    def outcomes(self, tables: Mapping[str, pd.DataFrame], asked: Requests, card: Problem) -> pd.DataFrame:
        """See `ProblemCode`."""
        own = getattr(self._dataset, "outcomes", None)
        found = labelled_outcomes(asked, card) if own is None else cast(pd.DataFrame, own(tables, asked, card))
        promises.keep(promises.outcomes(found), self._where(self._dataset, "outcomes"))
        return found

    def views(self, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
        """See `ProblemCode`."""
        found = self._features.views(tables)
        promises.keep(promises.sources(found), self._where(self._features, "views"))
        return cast(Mapping[str, pd.DataFrame], found)

    @staticmethod
    def _where(module: ModuleType, function: str) -> str:
        path = Path(module.__file__ or module.__name__)
        return f"{path.parent.name}/{path.name}: {function}()"
