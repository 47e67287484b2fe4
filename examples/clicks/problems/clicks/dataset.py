"""Problem "clicks": from the source's rows to clean tables, and to requests with their labels.

Invariant: both are pure functions of the rows; every cleaning rule leaves its count.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from serinus.core.card import Problem
from serinus.features.dataset import Cleaned, Requests


def clean(raw: pd.DataFrame) -> Cleaned:
    """Table `impressions`: one row an item that was shown in a visit."""
    kept = raw.drop_duplicates(["visit", "item"])
    impressions = pd.DataFrame(
        {
            "visit": kept["visit"].astype(str),
            "at": pd.to_datetime(kept["at"]).astype("datetime64[us]"),
            "shopper": kept["shopper"].astype(str),
            "item": kept["item"].astype(str),
            "topic": kept["topic"].astype(str),
            "price": kept["price"].astype(float),
            "clicked": kept["clicked"].astype("int64"),
            "shown": 1.0,
        }
    ).sort_values(["visit", "item"], ignore_index=True)
    counts = (("rows accepted", len(raw)), ("shown twice in a visit", len(raw) - len(kept)))
    return Cleaned({"impressions": impressions}, counts)


def requests(tables: Mapping[str, pd.DataFrame], card: Problem) -> Requests:
    """One request a visit, with what was shown in it; the label says which of it was clicked."""
    log = tables["impressions"]
    start, end = pd.Timestamp(card.data.splits.train.start), pd.Timestamp(card.data.splits.test.end)
    log = log[log["at"].between(start, end, inclusive="left")]
    visits = log.drop_duplicates("visit").reset_index(drop=True)
    asked = pd.DataFrame(
        {"request_id": visits["visit"], "entity": visits["shopper"], "unit": visits["shopper"], "as_of": visits["at"]}
    )
    position = pd.Series(visits.index, index=visits["visit"])
    rows = pd.DataFrame(
        {
            "request": position.loc[log["visit"]].to_numpy(),
            "item": log["item"].to_numpy(),
            "label": log["clicked"].to_numpy(),
            "value": log["clicked"].to_numpy(dtype=float),
        }
    )
    return Requests(asked, rows)
