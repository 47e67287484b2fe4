"""Feature sources of problem "clicks", and the model inputs computed from them at request time.

Invariant: a source row may be used from its `event_timestamp` on, a midnight, and knows only what was before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from serinus.features.inputs import Cosine, Inputs, Ratio, Value

INPUTS: Inputs = (
    Value(name="c_rate", of="shopper_profile:rate", default=0.2),
    Value(name="c_purse", of="shopper_profile:purse", scale="log", default=3.0),
    Value(name="i_rate", of="item_daily:rate", default=0.2),
    Value(name="i_price", of="item_daily:price", scale="log", default=3.0),
    # Whoever looks for a price wants neither less nor more: trees see that, a linear model cannot.
    Ratio(name="x_price", of="item_daily:price", over="shopper_profile:purse", scale="log"),
    Cosine(name="x_taste", left="shopper_profile:taste", right="item_daily:topic"),
)
# As many impressions as this, of the average, stand before those of a shopper or an item: few say little.
PRIOR = 20.0
PRIOR_CLICKS = 2.0


def views(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Source rows of the views declared in feature_repo/clicks.py."""
    log = tables["impressions"]
    topics = pd.get_dummies(log["topic"], dtype=float)
    return {"shopper_profile": _shoppers(log, topics), "item_daily": _items(log, topics)}


def _shoppers(log: pd.DataFrame, topics: pd.DataFrame) -> pd.DataFrame:
    clicked = topics.mul(log["clicked"], axis=0)
    spent = (np.log1p(log["price"]) * log["clicked"]).rename("spent")
    known = _running(log.assign(spent=spent), "shopper", ["clicked", "shown", "spent"], clicked)
    average, usual = log["clicked"].mean(), float(np.log1p(log["price"]).mean())
    rows = known[["shopper", "event_timestamp"]].copy()
    rows["rate"] = (known["clicked"] + PRIOR * average) / (known["shown"] + PRIOR)
    rows["purse"] = np.expm1((known["spent"] + PRIOR_CLICKS * usual) / (known["clicked"] + PRIOR_CLICKS))
    share = known[topics.columns].to_numpy() + PRIOR_CLICKS / len(topics.columns)
    rows["taste"] = list((share / share.sum(axis=1, keepdims=True)).astype(np.float32))
    return rows


def _items(log: pd.DataFrame, topics: pd.DataFrame) -> pd.DataFrame:
    known = _running(log, "item", ["clicked", "shown"], topics)
    rows = known[["item", "event_timestamp"]].copy()
    rows["rate"] = (known["clicked"] + PRIOR * log["clicked"].mean()) / (known["shown"] + PRIOR)
    rows["price"] = known["item"].map(log.groupby("item")["price"].first())
    rows["topic"] = list((known[topics.columns].to_numpy() > 0).astype(np.float32))
    return rows


def _running(log: pd.DataFrame, key: str, columns: list[str], more: pd.DataFrame) -> pd.DataFrame:
    """Sums of a key up to the end of each day on which it was seen, usable from the midnight after."""
    day = log["at"].dt.normalize() + pd.Timedelta(days=1)
    amounts = pd.concat([log[[key, *columns]], more], axis=1).assign(event_timestamp=day.astype("datetime64[us]"))
    daily = amounts.groupby([key, "event_timestamp"]).sum()
    return daily.groupby(level=key).cumsum().reset_index()
