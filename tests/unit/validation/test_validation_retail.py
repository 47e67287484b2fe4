"""Retail's contract: the published log passes with its known oddities, and each kind of damage is told at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from serinus.core.errors import ContractViolation, DataError
from serinus.validation.contract import Contract, Rows, Suite, parse_contract
from serinus.validation.run import Verdict, validate
from serinus.validation.source import read_table

FOLDER = Path(__file__).parents[3] / "problems" / "retail"
NAME = "data/online_retail.parquet"
TAKEN = datetime(2011, 12, 10)
Damage = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def contract() -> Contract:
    return parse_contract(yaml.safe_load((FOLDER / "contract.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    return read_table(FOLDER / NAME, name=NAME)


@pytest.fixture(scope="module")
def verdict(contract: Contract, log: pd.DataFrame) -> Verdict:
    return validate(contract.suites["raw"], log, snapshot_time=TAKEN)


@pytest.fixture(scope="module")
def some(log: pd.DataFrame) -> pd.DataFrame:
    """The newest row and every 50th before it."""
    return log.iloc[::-50].reset_index(drop=True)


def of_any_size(suite: Suite) -> Suite:
    return suite.model_copy(update={"rows": Rows()})


def first_line(suite: Suite, table: pd.DataFrame, taken: datetime = TAKEN) -> str:
    with pytest.raises(ContractViolation) as violation:
        validate(of_any_size(suite), table, snapshot_time=taken).require(f"retail: {NAME}")
    return str(violation.value).splitlines()[0]


def test_the_published_log_keeps_its_contract(verdict: Verdict, log: pd.DataFrame) -> None:
    verdict.require(f"retail: {NAME}")
    assert [check.line() for check in verdict.checks if not check.holds] == []
    assert len(verdict.accepted) + len(verdict.quarantined) == len(log) == 541_909


def test_its_known_oddities_are_measured(verdict: Verdict) -> None:
    measured = {check.name: check.measured for check in verdict.checks}
    assert measured["Description not_null"] == "1,454 of 541,909 rows null, 0.27%"
    assert measured["CustomerID not_null"] == "135,080 of 541,909 rows null, 24.93%"
    assert measured["cancelled or corrected quantity"] == "10,624 of 541,909 rows outside, 1.96%"
    assert measured["exact duplicates"] == "10,147 of 541,909 rows repeated, 1.87%"
    assert measured["UnitPrice range"] == "2 of 541,909 rows outside, 0.000369%"
    assert measured["InvoiceDate freshness"] == "2011-12-09 12:50"


def test_only_the_two_debts_written_off_are_set_aside(verdict: Verdict) -> None:
    assert verdict.quarantined["InvoiceNo"].tolist() == ["A563186", "A563187"]
    assert verdict.quarantined["_reasons"].tolist() == ["UnitPrice range"] * 2
    assert verdict.quarantined["_row"].tolist() == [299_983, 299_984]


def with_negative_prices(log: pd.DataFrame) -> pd.DataFrame:
    return log.assign(UnitPrice=log["UnitPrice"].where(log.index % 10 > 0, -log["UnitPrice"] - 1))


def with_prices_in_pence(log: pd.DataFrame) -> pd.DataFrame:
    return log.assign(UnitPrice=log["UnitPrice"].clip(upper=300) * 100)


def with_duplicates(log: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([log, log.iloc[: len(log) // 10]])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda log: log.rename(columns={"UnitPrice": "Price"}),
            "column UnitPrice fail: missing; there is an undeclared column Price (allowed number); 5 more",
        ),
        (
            with_negative_prices,
            "UnitPrice range fail: 1,084 of 10,839 rows outside, 10% (allowed 0 to 50,000 in all but 0.01% of rows)",
        ),
        (
            with_duplicates,
            "exact duplicates fail: 2,166 of 11,922 rows repeated, 18.17% (allowed at most 4% of rows)",
        ),
        (
            lambda log: log.assign(UnitPrice=log["UnitPrice"].map("{:.2f}".format)),
            "column UnitPrice fail: text (allowed number); 2 more",
        ),
        (
            lambda log: log.assign(InvoiceDate=log["InvoiceDate"].dt.strftime("%d/%m/%Y")),
            "column InvoiceDate fail: text (allowed time); 2 more",
        ),
        (lambda log: log.head(0), "rows fail: 0 (allowed at least 1); 15 more"),
        (with_prices_in_pence, "UnitPrice quantile 0.5 fail: 208 (allowed 1 to 5)"),
    ],
    ids=["renamed column", "negative prices", "duplicated keys", "text prices", "text dates", "no rows", "pence"],
)
def test_damage_is_told_by_the_first_line(contract: Contract, some: pd.DataFrame, damage: Damage, told: str) -> None:
    line = first_line(contract.suites["raw"], damage(some))
    assert line == f"retail: {NAME} breaks its contract (suite raw): {told}"


def test_a_stale_log(contract: Contract, some: pd.DataFrame) -> None:
    assert first_line(contract.suites["raw"], some, TAKEN + timedelta(days=30)) == (
        f"retail: {NAME} breaks its contract (suite raw): InvoiceDate freshness fail: 2011-12-09 12:50 "
        "(allowed 2012-01-06 00:00 to 2012-01-09 00:00)"
    )


def test_half_a_log(contract: Contract, some: pd.DataFrame) -> None:
    (check,) = [
        check for check in validate(contract.suites["raw"], some, snapshot_time=TAKEN).checks if check.name == "rows"
    ]
    assert check.line() == "rows fail: 10,839 (allowed 400,000 to 800,000)"
    assert check.stops


@pytest.mark.parametrize(("kept", "told"), [(0.6, "is truncated"), (0.0, "is empty (0 bytes)")])
def test_a_log_that_was_not_copied_whole(tmp_path: Path, kept: float, told: str) -> None:
    whole = (FOLDER / NAME).read_bytes()
    (tmp_path / "log.parquet").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError) as fault:
        read_table(tmp_path / "log.parquet", name=f"retail: {NAME}")
    assert str(fault.value) == f"retail: {NAME} {told}"


def matrix() -> pd.DataFrame:
    """900 rows of a training set; base rates as after sampling."""
    place = np.arange(900)
    split = np.array(["train", "validate", "test"])[place // 300]
    label = np.where(split == "train", place % 8 == 0, place % 20 == 0).astype(np.int64)
    return pd.DataFrame(
        {
            "request_id": [f"r{one // 10}" for one in place],
            "item": [f"i{one % 10}" for one in place],
            "label": label,
            "value": np.where(label == 1, 9.5, 0.0),
            "split": split,
            "i_price": np.linspace(0, 1, 900, dtype=np.float32),
            "x_bought": (place % 7 == 0).astype(np.float32),
        }
    )


def training_line(contract: Contract, table: pd.DataFrame) -> str:
    return first_line(contract.suites["training"], table).removeprefix(
        f"retail: {NAME} breaks its contract (suite training): "
    )


def test_a_sound_training_set(contract: Contract) -> None:
    found = validate(of_any_size(contract.suites["training"]), matrix(), snapshot_time=TAKEN)
    assert [check.line() for check in found.checks if not check.holds] == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda rows: rows.assign(i_price=rows["i_price"].where(rows["i_price"] < 0.5)),
            "finite fail: 450 of 900 rows not finite (i_price), 50% (allowed none)",
        ),
        (
            lambda rows: rows.assign(x_bought=np.float32(0)),
            "varied fail: 100% in x_bought (allowed one value in at most 98% of rows)",
        ),
        (
            lambda rows: rows.assign(label=rows["label"] * 2),
            "label one_of fail: 68 of 900 rows not listed, 7.56% (allowed one of 0, 1); 3 more",
        ),
        (
            lambda rows: rows.assign(item="i0"),
            "unique request_id, item fail: 900 of 900 rows repeated, 100% (allowed none)",
        ),
        (
            lambda rows: rows.assign(request_id=[None, *rows["request_id"][1:]]),
            "request_id not_null fail: 1 of 900 rows null, 0.11% (allowed none)",
        ),
        (
            lambda rows: rows.assign(label=rows["label"].where(rows["split"] != "test", 0)),
            "label mean where split = test fail: 0 (allowed 0.03 to 0.06)",
        ),
    ],
    ids=["null inputs", "dead input", "labels of 2", "repeated rows", "nameless request", "no positives in test"],
)
def test_a_damaged_training_set_is_told_by_the_first_line(contract: Contract, damage: Damage, told: str) -> None:
    assert training_line(contract, damage(matrix())) == told
