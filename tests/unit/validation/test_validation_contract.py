"""A contract explains its faults by field, before any data is read."""

from __future__ import annotations

from typing import Any

import pytest

from serinus.core.errors import CardError
from serinus.validation.contract import Contract, parse_contract

COLUMNS = {"id": "text", "price": "number", "at": "time", "live": "flag", "count": "whole"}
TRAINING = {"columns": {"label": "whole"}, "other_columns": "allowed"}


def contract(*rules: dict[str, Any], **suite: object) -> Contract:
    raw = {"columns": COLUMNS, "rules": list(rules)} | suite
    return parse_contract({"suites": {"raw": raw, "training": TRAINING}}, "shop/contract.yaml")


def faults(*rules: dict[str, Any], **suite: object) -> str:
    with pytest.raises(CardError) as fault:
        contract(*rules, **suite)
    assert fault.value.headline.startswith("shop/contract.yaml has ")
    assert fault.value.exit_code == 2
    return fault.value.cause


def test_a_contract_knows_the_names_of_its_suites_and_checks() -> None:
    raw = contract(
        {"rule": "range", "column": "price", "min": 0},
        {"rule": "unique", "columns": ["id", "at"]},
        {"rule": "share", "column": "live", "value": True, "min": 0.5, "where": {"id": "a"}},
        {"rule": "quantile", "column": "count", "q": 0.9, "max": 10, "name": "most are small"},
    ).suites["raw"]
    assert raw.name == "raw"
    assert [rule.title for rule in raw.rules] == [
        "price range",
        "unique id, at",
        "live share of True where id = a",
        "most are small",
    ]


def test_a_document_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(CardError, match=r"shop/contract\.yaml is not a data contract"):
        parse_contract(["raw"], "shop/contract.yaml")


def test_both_suites_are_wanted() -> None:
    with pytest.raises(CardError) as fault:
        parse_contract({"suites": {"raw": {"columns": COLUMNS}}})
    assert "suites lacks training" in fault.value.cause


def test_a_suite_that_is_no_mapping_is_a_fault_of_its_field() -> None:
    with pytest.raises(CardError) as fault:
        parse_contract({"suites": {"raw": 3, "training": TRAINING}})
    assert fault.value.cause.startswith("suites.raw: ")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"rule": "rage", "column": "price"}, "suites.raw.rules[0]: Input tag 'rage'"),
        ({"rule": "range", "column": "price", "maximum": 3}, "suites.raw.rules[0].range.maximum: Extra inputs"),
        ({"rule": "range", "column": "price"}, "suites.raw.rules[0].range: needs min, max or both"),
        ({"rule": "range", "column": "price", "min": 3, "max": 2}, "min 3 is above max 2"),
        ({"rule": "range", "column": "at", "min": "2024-01-02", "max": "2024-01-01"}, "is after max"),
        ({"rule": "range", "column": "at", "min": "2024-01-02", "max": 5}, "must both be times or both be numbers"),
        ({"rule": "range", "column": "prise", "min": 0}, "rules[0] (prise range): column prise is not declared"),
        ({"rule": "range", "column": "id", "min": 0}, "needs a column of number or whole; id is text"),
        ({"rule": "range", "column": "price", "min": "2024-01-02"}, "needs a column of time; price is number"),
        ({"rule": "regex", "column": "count", "pattern": "a"}, "needs a column of text; count is whole"),
        ({"rule": "regex", "column": "id", "pattern": "(a"}, "not a regular expression"),
        ({"rule": "regex", "column": "id", "pattern": "(?i)b"}, "not a regular expression"),
        ({"rule": "mean", "column": "id", "min": 0}, "needs a column of number or whole; id is text"),
        ({"rule": "mean", "column": "price"}, "suites.raw.rules[0].mean: needs min, max or both"),
        ({"rule": "freshness", "column": "at", "within": "soon"}, "write a duration as a whole number and a unit"),
        ({"rule": "freshness", "column": "price", "within": "3d"}, "needs a column of time; price is number"),
        ({"rule": "one_of", "column": "id", "values": ["a", False]}, "values mix kinds"),
        ({"rule": "one_of", "column": "id", "values": [1, 2]}, "needs a column of number or whole; id is text"),
        ({"rule": "share", "column": "live", "value": "yes", "min": 0.5}, "needs a column of text; live is flag"),
        (
            {"rule": "mean", "column": "price", "max": 1, "where": {"id": 3}},
            "where: 3 cannot occur in id, which is text",
        ),
        ({"rule": "mean", "column": "price", "max": 1, "where": {"it": 3}}, "column it is not declared in columns"),
        ({"rule": "not_null", "column": "id", "budget": 1.5}, "rules[0].not_null.budget"),
        (
            {"rule": "not_null", "column": "id", "quarantine": True, "severity": "warning"},
            "a rule with quarantine is critical",
        ),
        ({"rule": "finite", "columns": ["id"]}, "needs a column of number or whole; id is text"),
        ({"rule": "varied", "max_share": 0.3}, "rules[0].varied.max_share"),
        ({"rule": "unique", "columns": []}, "rules[0].unique.columns"),
    ],
)
def test_a_fault_is_told_by_its_field(rule: dict[str, Any], told: str) -> None:
    assert told in faults(rule)


def test_every_fault_is_told_at_once() -> None:
    told = faults({"rule": "range", "column": "price"}, {"rule": "unique"}, rows={"min": 9, "max": 3}).splitlines()
    assert len(told) == 3


def test_two_rules_of_one_name_are_refused() -> None:
    twice = {"rule": "range", "column": "price", "min": 0}
    assert "two rules are called 'price range'; give one of them a name" in faults(twice, twice | {"max": 9})
    assert len(contract(twice, twice | {"max": 9, "name": "plausible"}).suites["raw"].rules) == 2


def test_a_kind_that_does_not_exist_is_told_with_its_column() -> None:
    assert "suites.raw.columns.id: Input should be 'text'" in faults(columns={"id": "varchar"})
