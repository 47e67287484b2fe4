"""Problem "renewal": from the source's rows to clean tables, and to requests with their labels.

Invariant: both are pure functions of the rows; every cleaning rule leaves its count.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from serinus.core.card import Problem
from serinus.features.dataset import Cleaned, Requests


def clean(raw: pd.DataFrame) -> Cleaned:
    """Table `months`: one row an account and month."""
    kept = raw.drop_duplicates(["account", "month"])
    months = pd.DataFrame(
        {
            "account": kept["account"].astype(str),
            "month": pd.to_datetime(kept["month"]).astype("datetime64[us]"),
            "plan": kept["plan"].astype(str),
            "sessions": kept["sessions"].astype(float),
            "tickets": kept["tickets"].astype(float),
            "fee": kept["fee"].astype(float),
            "churned": kept["churned"].astype("int64"),
        }
    ).sort_values(["account", "month"], ignore_index=True)
    return Cleaned({"months": months}, (("rows accepted", len(raw)), ("repeated months", len(raw) - len(kept))))


def requests(tables: Mapping[str, pd.DataFrame], card: Problem) -> Requests:
    """One request an account and month, asked on the morning after the month ended, when its figures are known."""
    months = tables["months"]
    as_of = months["month"] + pd.offsets.MonthBegin(1) + pd.Timedelta(hours=9)
    inside = as_of.between(
        pd.Timestamp(card.data.splits.train.start), pd.Timestamp(card.data.splits.test.end), inclusive="left"
    )
    asked = pd.DataFrame(
        {
            "request_id": months["account"] + "-" + months["month"].dt.strftime("%Y%m"),
            "entity": months["account"],
            "unit": months["account"],
            "as_of": as_of.astype("datetime64[us]"),
            "label": months["churned"],
            "value": months["fee"] * months["churned"],
        }
    )[inside].sort_values("request_id", ignore_index=True)
    rows = pd.DataFrame({"request": asked.index, "item": "", "label": asked["label"], "value": asked["value"]})
    return Requests(asked.drop(columns=["label", "value"]), rows)
