"""Feature sources of problem "retail" (day by day) and the model inputs computed from them at request time.

Invariant: a source row with event time `day 00:00` was computed from what happened before that day; what depends on
"now" is stored as a time and becomes an age only in `INPUTS`. Item volumes are divided by the day's mean over eligible
items: raw volumes grow before Christmas and take the calibration with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from serinus.features.inputs import Clock, Cosine, DaysSince, Equals, History, Inputs, Ratio, Value

ELIGIBLE_DAYS = 60
ITEM_WINDOWS = (1, 7, 30)
CUSTOMER_WINDOWS = (7, 30, 90)
RETURN_DAYS = 90
CATEGORIES = 60
TEXT_WIDTH = 24
# The text model knows only the catalogue of the first month, which no request is drawn from.
CATALOGUE_DAYS = 31

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ITEM_VOLUMES: Inputs = tuple(
    Value(name=f"i_{what}_{days}", of=f"item_daily:{what}_{days}", scale="log")
    for what in ("lines", "revenue", "buyers")
    for days in ITEM_WINDOWS
)
_CUSTOMER_VOLUMES: Inputs = tuple(
    Value(name=f"c_{what}_{days}", of=f"customer_profile:{what}_{days}", scale="log")
    for what in ("visits", "lines", "revenue")
    for days in CUSTOMER_WINDOWS
)
_BOUGHT = {"keys": "customer_history:items", "counts": "customer_history:counts", "times": "customer_history:times"}
_CATEGORY = _BOUGHT | {"keys": "customer_history:categories", "match": "item_text:category"}

INPUTS: Inputs = (
    DaysSince(name="c_recency", of="customer_profile:last_visit", scale="log", default=5.9),
    DaysSince(name="c_tenure", of="customer_profile:first_visit", scale="log"),
    Value(name="c_visits", of="customer_profile:visits", scale="log"),
    Value(name="c_is_known", of="customer_profile:known"),
    Value(name="c_items", of="customer_profile:items", scale="log"),
    Value(name="c_basket_items", of="customer_profile:basket_items", scale="log"),
    Value(name="c_basket_value", of="customer_profile:basket_value", scale="log"),
    Value(name="c_line_price", of="customer_profile:line_price", scale="log"),
    Equals(name="c_is_uk", of="customer_profile:country", value="United Kingdom"),
    *_CUSTOMER_VOLUMES,
    *_ITEM_VOLUMES,
    Value(name="i_price", of="item_daily:price", scale="log"),
    Value(name="i_return_rate", of="item_daily:return_rate"),
    DaysSince(name="i_age", of="item_text:first_sale", scale="log"),
    DaysSince(name="i_last_sale", of="item_daily:last_sale", scale="log", default=4.1),
    History(name="x_bought", measure="any", keys="customer_history:items"),
    History(name="x_count", measure="count", scale="log", **_BOUGHT),
    History(name="x_rate", measure="rate", over="customer_profile:visits", **_BOUGHT),
    History(name="x_days_since", measure="days_since", scale="log", default=5.9, **_BOUGHT),
    History(name="x_category_share", measure="share", **_CATEGORY),
    History(name="x_category_count", measure="count", scale="log", **_CATEGORY),
    History(name="x_category_days_since", measure="days_since", scale="log", default=5.9, **_CATEGORY),
    Cosine(name="x_text", left="customer_history:taste", right="item_text:vector"),
    Ratio(name="x_price_ratio", of="item_daily:price", over="customer_profile:line_price", scale="log"),
    Clock(name="t_hour", part="hour"),
    Clock(name="t_weekday", part="weekday"),
)


@dataclass(frozen=True)
class _Log:
    """Sales as integer columns: day 0 is the first of the log, items and customers are codes of sorted arrays."""

    first_day: np.datetime64
    days: int
    items: NDArray[np.str_]
    customers: Ints
    item: Ints
    customer: Ints  # code, -1 where the customer is unknown
    day: Ints
    revenue: Floats
    sales: pd.DataFrame

    @classmethod
    def of(cls, sales: pd.DataFrame) -> _Log:
        days = sales["at"].to_numpy().astype("datetime64[D]")
        items, item = np.unique(sales["item"].to_numpy().astype(str), return_inverse=True)
        names = sales["customer"].to_numpy()
        customers = np.unique(names[names != 0])
        customer = np.where(names != 0, np.searchsorted(customers, names), -1)
        day = (days - days.min()).astype(np.int64)
        revenue = sales["revenue"].to_numpy(dtype=np.float64)
        return cls(days.min(), int(day.max()) + 1, items, customers, item, customer, day, revenue, sales)

    def stamp(self, day: Ints) -> NDArray[np.datetime64]:
        """Midnight at which `day` begins."""
        return (self.first_day + day).astype("datetime64[us]")


def views(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Source rows of the four views declared in feature_repo/retail.py."""
    log = _Log.of(tables["sales"])
    text = _texts(log)
    return {
        "customer_profile": _customer_profile(log),
        "customer_history": _customer_history(log, text),
        "item_daily": _item_daily(log, tables["returns"]),
        "item_text": _item_text(log, text),
    }


# --- items ------------------------------------------------------------------------------------------------------------


def _running(days: int, items: int, day: Ints, item: Ints, amount: Floats | float) -> Floats:
    """Totals before each day, shape (days + 1, items): row d sums all events of days < d."""
    daily = np.zeros((days + 1, items))
    np.add.at(daily, (day + 1, item), amount)
    return daily.cumsum(axis=0)


def _trailing(running: Floats, days: int) -> Floats:
    """Sum over the `days` days before each day, same shape as `running`."""
    out = running.copy()
    out[days:] -= running[:-days]
    return out


def _buyers(log: _Log, window: int) -> Floats:
    """Distinct known buyers in the `window` days before each day.

    A purchase on day d counts on days d+1 … d+window, cut short by the same customer's next purchase of the item.
    """
    known = log.customer >= 0
    bought = np.unique(np.stack([log.customer[known], log.item[known], log.day[known]]), axis=1)
    customer, item, day = bought
    same = (customer[1:] == customer[:-1]) & (item[1:] == item[:-1])
    following = np.append(np.where(same, day[1:], log.days + window), log.days + window)
    stop = np.minimum(np.minimum(day + window, following), log.days) + 1
    change = np.zeros((log.days + 2, len(log.items)))
    np.add.at(change, (day + 1, item), 1.0)
    np.add.at(change, (stop, item), -1.0)
    return change.cumsum(axis=0)[:-1]


def _relative(values: Floats, eligible: NDArray[np.bool_]) -> Floats:
    """Divided by the day's mean over eligible items; days without any sale in the window stay 0."""
    mean = np.where(eligible, values, 0.0).sum(axis=1) / np.maximum(eligible.sum(axis=1), 1)
    return np.divide(values, mean[:, None], out=np.zeros_like(values), where=mean[:, None] > 0)


def _latest(log: _Log, values: Floats) -> Floats:
    """The value of each item's latest selling day before each day; NaN before the first."""
    table = np.full((log.days + 1, len(log.items)), np.nan)
    table[log.day + 1, log.item] = values
    rows = np.where(np.isnan(table), 0, np.arange(log.days + 1)[:, None])
    return np.asarray(np.take_along_axis(table, np.maximum.accumulate(rows, axis=0), axis=0))


def _item_daily(log: _Log, returns: pd.DataFrame) -> pd.DataFrame:
    lines = _running(log.days, len(log.items), log.day, log.item, 1.0)
    revenue = _running(log.days, len(log.items), log.day, log.item, log.revenue)
    eligible = _trailing(lines, ELIGIBLE_DAYS) > 0
    columns: dict[str, Floats] = {}
    for days in ITEM_WINDOWS:
        columns[f"lines_{days}"] = _relative(_trailing(lines, days), eligible)
        columns[f"revenue_{days}"] = _relative(_trailing(revenue, days), eligible)
        columns[f"buyers_{days}"] = _relative(_buyers(log, days), eligible)
    columns["price"] = _latest(log, _daily_price(log))
    columns["return_rate"] = _return_rate(log, returns, _trailing(lines, RETURN_DAYS))
    sold_on = (log.first_day - np.datetime64("1970-01-01")).astype(int) + _latest(log, log.day.astype(np.float64))
    day, item = np.nonzero(eligible)
    frame = pd.DataFrame({"item": log.items[item].astype(object), "event_timestamp": log.stamp(day)})
    for name, table in columns.items():
        frame[name] = table[day, item].astype(np.float32)
    frame["last_sale"] = (sold_on[day, item] * 86_400_000_000).astype("datetime64[us]")
    return frame


def _daily_price(log: _Log) -> Floats:
    """Median unit price of the item on the line's day: one odd line must not set tomorrow's price."""
    keys = pd.DataFrame({"day": log.day, "item": log.item, "price": log.sales["price"].to_numpy()})
    return keys.groupby(["day", "item"])["price"].transform("median").to_numpy()


def _return_rate(log: _Log, returns: pd.DataFrame, sold: Floats) -> Floats:
    """Lines returned per line sold over the trailing 90 days, at most 1."""
    day = (returns["at"].to_numpy().astype("datetime64[D]") - log.first_day).astype(np.int64)
    codes = returns["item"].to_numpy().astype(str)
    item = np.minimum(np.searchsorted(log.items, codes), len(log.items) - 1)
    known = (log.items[item] == codes) & (day >= 0) & (day < log.days)
    back = _trailing(_running(log.days, len(log.items), day[known], item[known], 1.0), RETURN_DAYS)
    return np.minimum(np.divide(back, sold, out=np.zeros_like(back), where=sold > 0), 1.0)


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Texts:
    """A vector and a category for each item, from its first description."""

    first_day: Ints
    vectors: NDArray[np.float32]
    category: Ints


def _texts(log: _Log) -> _Texts:
    """TF-IDF, SVD and clusters fitted on the opening catalogue; later items are only projected."""
    described = pd.DataFrame({"item": log.item, "day": log.day, "text": log.sales["description"].to_numpy()})
    first_day = described.groupby("item")["day"].min().to_numpy()
    first_text = described.sort_values(["day", "item"], kind="stable").groupby("item")["text"].first().fillna("")
    catalogue = first_text[first_day < CATALOGUE_DAYS]
    with threadpool_limits(1):
        terms = TfidfVectorizer(min_df=2, sublinear_tf=True).fit(catalogue)
        known = terms.transform(catalogue)
        width = min(TEXT_WIDTH, known.shape[1] - 1, known.shape[0] - 1)
        svd = TruncatedSVD(n_components=width, random_state=0).fit(known)
        vectors = _unit(svd.transform(terms.transform(first_text)))
        groups = KMeans(min(CATEGORIES, len(catalogue)), n_init=1, random_state=0).fit(
            vectors[first_day < CATALOGUE_DAYS]
        )
        category = groups.predict(vectors)
    return _Texts(first_day, vectors.astype(np.float32), category.astype(np.int64))


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _item_text(log: _Log, text: _Texts) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item": log.items.astype(object),
            "event_timestamp": log.stamp(text.first_day + 1),
            "first_sale": log.stamp(text.first_day),
            "category": text.category,
            "vector": list(text.vectors),
        }
    )


# --- customers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Visits:
    """One row a visit, sorted by customer and time, with running totals that start with a 0."""

    customer: Ints
    day: Ints
    at: NDArray[np.datetime64]
    country: NDArray[np.object_]
    lines: Floats
    revenue: Floats

    def upto(self, customer: Ints, day: Ints) -> Ints:
        """Position after the last visit of `customer` before `day`, in the sorted rows."""
        width = 1_000_000
        return np.searchsorted(self.customer * width + self.day, customer * width + np.maximum(day, 0), "left")


def _visits_of(log: _Log) -> _Visits:
    known = log.sales[log.customer >= 0].assign(customer=log.customer[log.customer >= 0])
    grouped = (
        known.groupby("visit", sort=True)
        .agg(
            customer=("customer", "first"),
            at=("at", "min"),
            country=("country", "first"),
            lines=("item", "nunique"),
            revenue=("revenue", "sum"),
        )
        .sort_values(["customer", "at"], kind="stable")
    )
    at = grouped["at"].to_numpy()
    day = (at.astype("datetime64[D]") - log.first_day).astype(np.int64)
    return _Visits(
        grouped["customer"].to_numpy(),
        day,
        at,
        grouped["country"].to_numpy(dtype=object),
        _with_zero(grouped["lines"].to_numpy()),
        _with_zero(grouped["revenue"].to_numpy()),
    )


def _with_zero(values: NDArray[np.float64]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _customer_profile(log: _Log) -> pd.DataFrame:
    """A row on each day on which a total or a window changes: after a visit, and when a visit leaves a window."""
    visits = _visits_of(log)
    shifts = np.array([1, *(1 + days for days in CUSTOMER_WINDOWS)])
    pairs = np.stack([np.repeat(visits.customer, len(shifts)), (visits.day[:, None] + shifts).ravel()])
    customer, day = np.unique(pairs[:, pairs[1] <= log.days], axis=1)
    end, start = visits.upto(customer, day), visits.upto(customer, np.zeros_like(day))
    count = (end - start).astype(np.float64)
    frame = pd.DataFrame({"customer": log.customers[customer], "event_timestamp": log.stamp(day)})
    lines, revenue = visits.lines[end] - visits.lines[start], visits.revenue[end] - visits.revenue[start]
    frame["known"] = np.ones(len(frame), dtype=np.float32)
    frame["country"] = visits.country[end - 1]
    frame["first_visit"], frame["last_visit"] = visits.at[start], visits.at[end - 1]
    plain = {
        "visits": count,
        "items": lines,
        "basket_items": lines / count,
        "basket_value": revenue / count,
        "line_price": _line_price(log, customer, day),
    }
    for days in CUSTOMER_WINDOWS:
        since = visits.upto(customer, day - days)
        plain[f"visits_{days}"] = (end - since).astype(np.float64)
        plain[f"lines_{days}"] = visits.lines[end] - visits.lines[since]
        plain[f"revenue_{days}"] = visits.revenue[end] - visits.revenue[since]
    return frame.assign(**{name: values.astype(np.float32) for name, values in plain.items()})


def _line_price(log: _Log, customer: Ints, day: Ints) -> Floats:
    """Mean unit price of the lines the customer bought before `day`."""
    known = np.flatnonzero(log.customer >= 0)
    order = known[np.lexsort((log.day[known], log.customer[known]))]
    key = log.customer[order] * 1_000_000 + log.day[order]
    running = _with_zero(log.sales["price"].to_numpy()[order])
    start, end = np.searchsorted(key, customer * 1_000_000), np.searchsorted(key, customer * 1_000_000 + day)
    return (running[end] - running[start]) / np.maximum(end - start, 1)


def _customer_history(log: _Log, text: _Texts) -> pd.DataFrame:
    """On the day after each visit: every item bought so far, in how many visits, and when last."""
    known = log.sales[log.customer >= 0].assign(item=log.item[log.customer >= 0], day=log.day[log.customer >= 0])
    bought = (
        known.groupby(["customer", "visit", "item"], sort=True).agg(day=("day", "min"), at=("at", "min")).reset_index()
    )
    bought["at"] = bought["at"].to_numpy().astype("datetime64[s]").astype(np.int64)
    rows = [
        row
        for customer, group in bought.groupby("customer", sort=True)
        for row in _histories(int(str(customer)), group, log, text)
    ]
    return pd.DataFrame(rows)


def _histories(customer: int, bought: pd.DataFrame, log: _Log, text: _Texts) -> Iterator[dict[str, object]]:
    """The customer's history after each of its days with a visit, items in order of their code."""
    items, code = np.unique(bought["item"].to_numpy(), return_inverse=True)
    days, row = np.unique(bought["day"].to_numpy(), return_inverse=True)
    counts = np.zeros((len(days), len(items)), dtype=np.int64)
    latest = np.zeros((len(days), len(items)), dtype=np.int64)
    np.add.at(counts, (row, code), 1)
    np.maximum.at(latest, (row, code), bought["at"].to_numpy())
    counts, latest = counts.cumsum(axis=0), np.maximum.accumulate(latest, axis=0)
    names, categories, vectors = log.items[items].astype(object), text.category[items], text.vectors[items]
    for position, day in enumerate(days):
        has = counts[position] > 0
        yield {
            "customer": customer,
            "event_timestamp": log.stamp(day + 1),
            "items": names[has],
            "counts": counts[position][has],
            "times": latest[position][has],
            "categories": categories[has],
            "taste": (counts[position] @ vectors / counts[position].sum()).astype(np.float32),
        }
