"""Checks the values that a problem's own code gives its recorded requests, before anything is joined to them; that the
columns are there is one of its promises (`serinus.features.promises`).

Invariant: ids are in their written form, labels are 0 or 1, times are UTC without a zone; so a replay asks for the very
rows that a model was trained on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from serinus.core.card import Problem
from serinus.core.errors import DataError
from serinus.features.dataset import Requests
from serinus.features.keys import TEXT, IdKinds, require_keys

_TOLD = 3


def checked(asked: Requests, card: Problem, kinds: IdKinds) -> Requests:
    """The requests with their times in UTC. Raises `DataError` that names the column, and requests at fault."""
    requests, rows = asked.requests, asked.rows
    for column, kind in (("request_id", TEXT), ("entity", kinds.entity), ("unit", kinds.unit)):
        require_keys("the recorded requests", column, kind, requests[column].unique().tolist())
    if card.framing.item is not None:
        require_keys("the recorded rows", "item", kinds.item, rows["item"].unique().tolist())
    of_row = requests["request_id"].to_numpy()[rows["request"].to_numpy()]
    _require("label", "neither 0 nor 1", of_row[~rows["label"].isin((0, 1)).to_numpy()])
    _require("value", "no finite numbers", of_row[~np.isfinite(rows["value"].to_numpy(dtype=float, na_value=np.nan))])
    times = _times(requests["as_of"])
    _require("as_of", "no times", requests["request_id"][times.isna()].to_numpy())
    return replace(asked, requests=requests.assign(as_of=times))


def _times(column: pd.Series) -> pd.Series:
    utc = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
    return utc.astype("datetime64[us]")


def _require(column: str, problem: str, at_fault: np.ndarray) -> None:
    if len(at_fault):
        found = [str(one) for one in dict.fromkeys(at_fault)]
        raise DataError(
            f"{len(at_fault)} values of {column} in the recorded requests are {problem}",
            cause=f"of request {', '.join(found[:_TOLD])}" + (f" and {len(found) - _TOLD} more" * (len(found) > _TOLD)),
            hint="an empty label, or a null in a column it is made of, is for the contract to refuse: not_null",
        )
