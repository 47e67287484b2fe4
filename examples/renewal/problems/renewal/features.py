"""Feature sources of problem "renewal", and the model inputs computed from them at request time.

Invariant: a source row may be used from its `event_timestamp` on, so it knows only what happened before that day.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from serinus.features.inputs import DaysSince, Equals, Inputs, Value

INPUTS: Inputs = (
    Value(name="a_sessions", of="account_monthly:sessions", scale="log"),
    Value(name="a_sessions_3", of="account_monthly:sessions_3", scale="log"),
    Value(name="a_tickets", of="account_monthly:tickets"),
    Value(name="a_fee", of="account_monthly:fee", scale="log"),
    Equals(name="a_is_basic", of="account_monthly:plan", value="basic"),
    DaysSince(name="a_tenure", of="account_monthly:first_month", scale="log"),
)


def views(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Source rows of the view declared in feature_repo/renewal.py."""
    months = tables["months"]
    by_account = months.groupby("account", sort=False)
    rows = months[["account", "plan", "sessions", "tickets", "fee"]].copy()
    rows["event_timestamp"] = (months["month"] + pd.offsets.MonthBegin(1)).astype("datetime64[us]")
    rows["first_month"] = by_account["month"].transform("min")
    rows["sessions_3"] = by_account["sessions"].transform(lambda values: values.rolling(3, min_periods=1).mean())
    return {"account_monthly": rows}
