"""Problem retail on the real log: published counts, candidates that give nothing away, features that see no future."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from serinus.core.card import Problem
from serinus.features.dataset import Cleaned, ProblemCode, Requests
from serinus.wiring.project import open_project

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def code() -> ProblemCode:
    return open_project({}, start=ROOT).problem("retail").code


@pytest.fixture(scope="module")
def cleaned(code: ProblemCode) -> Cleaned:
    return code.clean(pq.ParquetFile(ROOT / "problems/retail/data/online_retail.parquet").read().to_pandas())


@pytest.fixture(scope="module")
def recent(cleaned: Cleaned) -> dict[str, pd.DataFrame]:
    """A third of the customers, to keep the tests of this file fast; every item stays."""
    sales, returns = cleaned.tables["sales"], cleaned.tables["returns"]
    return {"sales": sales[sales["customer"] % 3 == 0].reset_index(drop=True), "returns": returns}


@pytest.fixture(scope="module")
def asked(code: ProblemCode, recent: dict[str, pd.DataFrame], retail_card: Problem) -> Requests:
    return code.requests(recent, retail_card)


def test_cleaning_gives_the_published_counts(cleaned: Cleaned) -> None:
    """notes of the data set: 391,153 lines of known customers in 16,871 visits; 131,387 without a customer."""
    counts = dict(cleaned.rules)
    assert counts["rows accepted by the contract"] == 541_909
    assert counts["exact duplicates"] == 5_268
    assert counts["sales of known customers"] == 391_153
    assert counts["visits of known customers"] == 16_871
    assert counts["sales without a customer (popularity only)"] == 131_387
    assert len(cleaned.tables["sales"]) == 391_153 + 131_387


def test_lines_less_than_an_hour_apart_are_one_visit(code: ProblemCode) -> None:
    """Trap: an invoice entered in two halves would find its own basket in the customer's history."""
    times = ["2011-01-05 10:00", "2011-01-05 10:59", "2011-01-05 11:59", "2011-01-05 13:00"]
    raw = pd.DataFrame(
        {
            "InvoiceNo": [f"53636{i}" for i in range(4)],
            "StockCode": [f"2242{i}" for i in range(4)],
            "Description": "CAKE STAND",
            "Quantity": 1,
            "InvoiceDate": pd.to_datetime(times),
            "UnitPrice": 1.0,
            "CustomerID": 12347.0,
            "Country": "EIRE",
        }
    )
    assert code.clean(raw).tables["sales"]["visit"].tolist() == [0, 0, 0, 1]


def test_lists_are_of_one_size_with_at_most_five_bought(asked: Requests, retail_card: Problem) -> None:
    rows = asked.rows.groupby("request")
    assert (rows.size() == 100).all()
    bought = rows["label"].sum()
    assert bought.between(1, 5).all()
    assert asked.requests["request_id"].is_unique
    assert not asked.rows.duplicated(["request", "item"]).any()
    assert (asked.rows.loc[asked.rows["label"] == 0, "value"] == 0).all()
    assert (asked.rows.loc[asked.rows["label"] == 1, "value"] > 0).all()


def test_bought_or_not_every_candidate_passed_one_rule(asked: Requests, recent: dict[str, pd.DataFrame]) -> None:
    """Trap: positives outside the pool of the negatives are a give-away."""
    sold = recent["sales"].assign(day=recent["sales"]["at"].dt.normalize())[["item", "day"]].drop_duplicates()
    rows = asked.rows.assign(day=asked.requests["as_of"].dt.normalize().to_numpy()[asked.rows["request"]])
    sample = rows[rows["request"] % 40 == 0]
    pairs = sample.merge(sold, on="item", suffixes=("", "_sold"))
    age = (pairs["day"] - pairs["day_sold"]).dt.days
    eligible = pairs[(age >= 1) & (age <= 60)].groupby(["request", "item"]).size()
    assert len(eligible) == len(sample)


def test_own_history_is_at_most_a_third_of_the_negatives(asked: Requests, recent: dict[str, pd.DataFrame]) -> None:
    sales = recent["sales"][recent["sales"]["customer"] > 0]
    first = sales.groupby(["customer", "item"])["at"].min().dt.normalize().rename("first").reset_index()
    rows = asked.rows[asked.rows["label"] == 0].copy()
    rows["customer"] = asked.requests["entity"].to_numpy()[rows["request"]]
    rows["day"] = asked.requests["as_of"].dt.normalize().to_numpy()[rows["request"]]
    known = rows.merge(first, on=["customer", "item"], how="left")
    own = known[known["first"] < known["day"]].groupby("request").size()
    assert own.max() <= 33
    assert own.max() >= 25  # the share is used where the history is long enough


@pytest.mark.slow
def test_the_same_seed_gives_the_same_lists_and_another_gives_others(
    code: ProblemCode, recent: dict[str, pd.DataFrame], asked: Requests, retail_card: Problem
) -> None:
    window = {"data": retail_card.data.model_copy(update={"seed": 1})}
    again = code.requests(recent, retail_card)
    pd.testing.assert_frame_equal(again.rows, asked.rows)
    other = code.requests(recent, retail_card.model_copy(update=window))
    assert not other.rows["item"].equals(asked.rows["item"])


def _before(tables: Mapping[str, pd.DataFrame], day: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """The log as it stood when `day` began."""
    return {name: table[table["at"] < day].reset_index(drop=True) for name, table in tables.items()}


def _usable(rows: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Rows that a lookup on `day` may see, in a fixed order, lists as text."""
    key = "customer" if "customer" in rows else "item"
    kept = rows[rows["event_timestamp"] <= day].sort_values([key, "event_timestamp"], ignore_index=True)
    lists = [name for name in kept if kept[name].map(type).eq(np.ndarray).any()]
    return kept.assign(**{name: kept[name].map(lambda value: value.tolist()) for name in lists})


@pytest.fixture(scope="module")
def full_views(code: ProblemCode, recent: dict[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
    return code.views(recent)


@pytest.mark.slow
@pytest.mark.parametrize("day", ["2011-03-01", "2011-10-04"])
def test_no_feature_sees_its_own_day_or_later(
    code: ProblemCode, recent: dict[str, pd.DataFrame], full_views: Mapping[str, pd.DataFrame], day: str
) -> None:
    """The rows usable on a day are the same whether or not that day, its visits included, ever happened."""
    moment = pd.Timestamp(day)
    cut = code.views(_before(recent, moment))
    for name, rows in full_views.items():
        expected, found = _usable(rows, moment), _usable(cut[name], moment)
        newest = found["event_timestamp"].max()
        expected = expected[expected["event_timestamp"] <= newest].reset_index(drop=True)
        assert len(found) > 100, name
        # A clipped log ends with its last trading day, so compare up to there; values must agree to the bit.
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=True, obj=name)


@pytest.mark.slow
def test_the_leak_test_finds_a_leak(
    code: ProblemCode, recent: dict[str, pd.DataFrame], full_views: Mapping[str, pd.DataFrame]
) -> None:
    """Negative control (trap: same-day item windows): counts that are usable a day too early are noticed."""
    moment = pd.Timestamp("2011-03-01")
    early = full_views["item_daily"].assign(
        event_timestamp=full_views["item_daily"]["event_timestamp"] - pd.Timedelta(days=1)
    )
    cut = code.views(_before(recent, moment))["item_daily"]
    found = _usable(cut, moment)
    expected = _usable(early, moment)
    same = found.merge(expected, on=["item", "event_timestamp"], suffixes=("", "_early"))
    assert (same["lines_1"] != same["lines_1_early"]).mean() > 0.1


def test_item_volumes_are_relative_to_the_day(full_views: Mapping[str, pd.DataFrame]) -> None:
    """Trap: raw volumes grow before Christmas and take the calibration with them."""
    means = full_views["item_daily"].groupby("event_timestamp")["lines_30"].mean()
    assert np.allclose(means[means > 0], 1.0, atol=1e-4)
    later = means[means.index > "2011-01-31"]
    assert (later > 0).all()


def test_the_first_month_gives_no_request(asked: Requests, retail_card: Problem) -> None:
    assert asked.requests["as_of"].min() >= pd.Timestamp(retail_card.data.splits.train.start)
