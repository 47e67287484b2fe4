"""The UCI "Online Retail" log as visits to rank for: cleaning rules, visits, candidates and labels.

Invariant: a candidate list holds nothing but items sold in the trailing 60 days before its day, bought or not; whatever
decides on a candidate was known at the end of the day before, except which of them were then bought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serinus.core.card import Problem
from serinus.core.errors import DataError
from serinus.core.hashing import combine, mix, text_keys, uniform
from serinus.features.dataset import Cleaned, Requests

VISIT_GAP = pd.Timedelta(minutes=60)
POPULARITY_DAYS = 30
PRODUCT = r"(?:\d{5}[A-Z]{0,3}|DCGS.*|PADS)"
_NO_CUSTOMER = 0

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def clean(raw: pd.DataFrame) -> Cleaned:
    """`sales` (customer 0 = unknown, visit -1 then) and `returns`, one row a line, with the count of every rule.

    Raises `DataError` when no sale is left.
    """
    lines, rules = _lines(raw)
    cancelled = lines["invoice"].str.startswith("C")
    adjusted = lines["invoice"].str.startswith("A")
    product = lines["item"].str.fullmatch(PRODUCT)
    returns = lines[cancelled & product]
    no_quantity = ~cancelled & (lines["quantity"] <= 0)
    no_price = ~cancelled & ~no_quantity & (lines["price"] <= 0)
    not_product = ~cancelled & ~adjusted & ~no_quantity & ~no_price & ~product
    sales = lines[~cancelled & ~adjusted & ~no_quantity & ~no_price & ~not_product]
    if sales.empty:
        raise DataError("no sale is left after cleaning the log", cause=f"of {len(raw)} rows")
    sales = _with_visits(sales)
    known = sales["customer"] != _NO_CUSTOMER
    rules += [
        ("cancelled invoices (product lines kept as returns)", int(cancelled.sum())),
        ("adjustments of bad debt", int((adjusted & ~cancelled).sum())),
        ("quantity not positive", int((no_quantity & ~adjusted).sum())),
        ("price not positive", int((no_price & ~adjusted).sum())),
        ("not a product (postage, fees, samples, vouchers)", int(not_product.sum())),
        ("sales without a customer (popularity only)", int((~known).sum())),
        ("sales of known customers", int(known.sum())),
        ("visits of known customers", int(sales.loc[known, "visit"].nunique())),
    ]
    return Cleaned({"sales": sales.reset_index(drop=True), "returns": _returns(returns)}, tuple(rules))


def _lines(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    codes = raw["StockCode"].str.strip().str.upper()
    lines = pd.DataFrame(
        {
            "invoice": raw["InvoiceNo"].astype(str),
            "item": codes,
            "description": raw["Description"].str.strip(),
            "quantity": raw["Quantity"].astype(np.int64),
            "price": raw["UnitPrice"].astype(np.float64),
            "customer": raw["CustomerID"].fillna(_NO_CUSTOMER).astype(np.int64),
            "country": raw["Country"],
            "at": raw["InvoiceDate"].astype("datetime64[us]"),
        }
    )
    kept = lines.drop_duplicates()
    rules = [
        ("rows accepted by the contract", len(raw)),
        ("item codes written in upper case", int((codes != raw["StockCode"]).sum())),
        ("exact duplicates", len(lines) - len(kept)),
    ]
    return kept, rules


def _with_visits(sales: pd.DataFrame) -> pd.DataFrame:
    """Lines in order of time; lines of one customer with gaps of at most 60 minutes are one visit.

    Without chaining, an invoice entered in two halves would find its own basket in the customer's history.
    """
    ordered = sales.sort_values(["customer", "at", "invoice", "item"], kind="stable")
    gap = ordered["at"].diff() > VISIT_GAP
    starts = gap | (ordered["customer"] != ordered["customer"].shift())
    known = ordered["customer"] != _NO_CUSTOMER
    visit = (starts & known).cumsum()
    ordered["visit"] = np.where(known, visit - 1, -1)
    ordered["revenue"] = ordered["quantity"] * ordered["price"]
    return ordered


def _returns(returns: pd.DataFrame) -> pd.DataFrame:
    kept = returns[["customer", "item", "quantity", "price", "at"]].copy()
    kept["quantity"] = -kept["quantity"]
    return kept.sort_values(["at", "customer", "item"], kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class DailyItems:
    """Line counts by day and item; day 0 is the log's first, items are in order of their code."""

    first_day: np.datetime64
    items: NDArray[np.str_]
    lines: Ints  # running total: row d holds all lines before day d, shape (days + 1, items)

    @classmethod
    def of(cls, sales: pd.DataFrame) -> DailyItems:
        """From the sales of known and unknown customers alike: popularity needs no name."""
        days = sales["at"].to_numpy().astype("datetime64[D]")
        first = days.min()
        items, code = np.unique(sales["item"].to_numpy().astype(str), return_inverse=True)
        day = (days - first).astype(np.int64)
        counts = np.zeros((day.max() + 2, len(items)), dtype=np.int64)
        np.add.at(counts, (day + 1, code), 1)
        return cls(first, items, counts.cumsum(axis=0))

    def within(self, day: int, days: int) -> Ints:
        """Lines of each item in the `days` days before `day`, which itself is never counted."""
        return np.asarray(self.lines[day] - self.lines[max(day - days, 0)])


@dataclass(frozen=True)
class _Visit:
    """One visit as the sampler sees it; items are codes of `DailyItems`."""

    number: int
    key: np.uint64
    day: int
    bought: Ints
    known: Ints  # bought by the customer on earlier days


@dataclass(frozen=True)
class _Sampler:
    """Chooses candidates by hash ranks; `key` of an item is the hash of its code."""

    daily: DailyItems
    keys: NDArray[np.uint64]
    size: int
    max_positives: int
    own_share: float
    eligible_days: int

    def choose(self, visit: _Visit) -> tuple[Ints, Ints]:
        """Candidates and their labels, in order of item; both empty when nothing eligible was bought."""
        eligible = self.daily.within(visit.day, self.eligible_days) > 0
        positives = visit.bought[eligible[visit.bought]]
        if not len(positives):
            return positives, positives
        draws = uniform(combine(self.keys, visit.key))
        positives = _first(positives, draws, self.max_positives)
        eligible[visit.bought] = False
        negatives = self._negatives(visit, eligible, draws, self.size - len(positives))
        chosen = np.concatenate([positives, negatives])
        labels = np.concatenate([np.ones(len(positives), np.int64), np.zeros(len(negatives), np.int64)])
        order = np.argsort(chosen, kind="stable")
        return chosen[order], labels[order]

    def _negatives(self, visit: _Visit, free: NDArray[np.bool_], draws: Floats, wanted: int) -> Ints:
        """Own history up to its share and no more, then half by popularity and half uniformly, without repetition."""
        own = _first(visit.known[free[visit.known]], draws, int(wanted * self.own_share))
        free[visit.known] = False
        pool = np.flatnonzero(free)
        # Efraimidis and Spirakis 2006: the smallest -ln(u)/w are a weighted sample without replacement.
        weights = self.daily.within(visit.day, POPULARITY_DAYS)[pool] + 1e-9
        popular = pool[_smallest(-np.log(draws[pool]) / weights, (wanted - len(own)) // 2)]
        free[popular] = False
        rest = np.flatnonzero(free)
        # A second draw: the first one already favoured large numbers for the popular half.
        again = uniform(mix(combine(self.keys[rest], visit.key)))
        return np.concatenate([own, popular, rest[_smallest(again, wanted - len(own) - len(popular))]])


def _first(items: Ints, draws: Floats, count: int) -> Ints:
    return items[_smallest(draws[items], count)]


def _smallest(values: Floats, count: int) -> Ints:
    """Positions of the `count` smallest values, in no order; draws of 53 bits have no ties."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count)[:count] if count > 0 else np.empty(0, dtype=np.int64)


def requests(tables: Mapping[str, pd.DataFrame], card: Problem) -> Requests:
    """Every visit of the card's splits with its candidates (set C5 of the problem's README)."""
    sales = tables["sales"]
    daily = DailyItems.of(sales)
    rule = card.framing.candidates
    if rule is None:
        raise DataError("problem retail ranks candidates", hint="framing.candidates is missing in its card")
    sampler = _Sampler(
        daily,
        combine(text_keys(daily.items), np.full(len(daily.items), card.data.seed, dtype=np.uint64)),
        rule.size,
        rule.max_positives,
        rule.own_history_share,
        rule.eligible_within.days,
    )
    known = sales[sales["visit"] >= 0]
    code = np.searchsorted(daily.items, known["item"].to_numpy().astype(str))
    first = int((np.datetime64(card.data.splits.train.start) - daily.first_day).astype(int))
    last = int((np.datetime64(card.data.splits.test.end) - daily.first_day).astype(int))
    lists = [
        (visit.number, *sampler.choose(visit)) for visit in _visits(known, code, daily) if first <= visit.day < last
    ]
    return _as_tables(lists, known.assign(code=code), daily)


def _visits(known: pd.DataFrame, code: Ints, daily: DailyItems) -> list[_Visit]:
    """Visits in order of customer and time (as `known` is), each with what its customer bought on earlier days."""
    number = known["visit"].to_numpy()
    day = (known["at"].to_numpy().astype("datetime64[D]") - daily.first_day).astype(np.int64)
    customer = known["customer"].to_numpy()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    owner = np.flatnonzero(np.diff(customer, prepend=-1))
    owner_start = owner[np.searchsorted(owner, starts, "right") - 1]
    day_start = np.searchsorted(customer * 100_000 + day, customer[starts] * 100_000 + day[starts], "left")
    ids = text_keys(_request_ids(known.iloc[starts]))
    return [
        _Visit(
            int(number[a]), ids[i], int(day[a]), np.unique(code[a:b]), np.unique(code[owner_start[i] : day_start[i]])
        )
        for i, (a, b) in enumerate(zip(starts, [*starts[1:], len(number)], strict=True))
    ]


def _request_ids(first_lines: pd.DataFrame) -> NDArray[np.str_]:
    """`<customer>-<minute of the first line>`: unique, because a customer's visits are over 60 minutes apart."""
    minute = first_lines["at"].dt.strftime("%Y%m%d%H%M")
    return (first_lines["customer"].astype(str) + "-" + minute).to_numpy().astype(str)


def _as_tables(lists: list[tuple[int, Ints, Ints]], known: pd.DataFrame, daily: DailyItems) -> Requests:
    kept = [entry for entry in lists if len(entry[1])]
    visits = np.array([number for number, _, _ in kept], dtype=np.int64)
    firsts = known.drop_duplicates("visit").set_index("visit").loc[visits]
    rows = pd.DataFrame(
        {
            "visit": np.repeat(visits, [len(items) for _, items, _ in kept]),
            "code": np.concatenate([items for _, items, _ in kept]) if kept else np.empty(0, np.int64),
            "label": np.concatenate([labels for _, _, labels in kept]) if kept else np.empty(0, np.int64),
        }
    )
    spent = known.groupby(["visit", "code"], sort=False)["revenue"].sum().rename("value").reset_index()
    rows = rows.merge(spent, on=["visit", "code"], how="left")
    rows["value"] = np.where(rows["label"] == 1, rows["value"], 0.0)
    asked = pd.DataFrame(
        {
            "request_id": _request_ids(firsts),
            "entity": firsts["customer"].to_numpy(),
            "unit": firsts["customer"].astype(str).to_numpy(),
            "as_of": firsts["at"].to_numpy(),
            "visit": visits,
        }
    ).sort_values("request_id", kind="stable", ignore_index=True)
    position = pd.Series(asked.index, index=asked["visit"])
    rows["request"] = position.loc[rows["visit"]].to_numpy()
    rows["item"] = daily.items[rows["code"]].astype(object)
    rows = rows.sort_values(["request", "item"], kind="stable", ignore_index=True)
    return Requests(asked.drop(columns="visit"), rows[["request", "item", "label", "value"]])


def outcomes(tables: Mapping[str, pd.DataFrame], asked: Requests, card: Problem) -> pd.DataFrame:
    """What was really bought in each visit, at the time of its invoice line; and that a customer came at all."""
    known = tables["sales"][tables["sales"]["visit"] >= 0]
    firsts = known.drop_duplicates("visit").set_index("visit")
    ids = pd.Series(_request_ids(firsts), index=firsts.index)
    bought = known.groupby(["visit", "item"], sort=True).agg(
        unit=("customer", "first"), value=("revenue", "sum"), at=("at", "min")
    )
    bought = bought.reset_index().assign(name=card.framing.label.name)
    bought["request_id"] = ids.loc[bought["visit"]].to_numpy()
    bought = bought[bought["request_id"].isin(asked.requests["request_id"])]
    visits = pd.DataFrame(
        {
            "unit": firsts["customer"],
            "value": known.groupby("visit")["revenue"].sum(),
            "at": firsts["at"],
            "name": "visit",
            "item": "",
            "request_id": "",
        }
    )
    found = pd.concat([bought.drop(columns="visit"), visits], ignore_index=True)
    return found.assign(unit=found["unit"].astype(str)).sort_values(["at", "unit", "name", "item"], ignore_index=True)
