"""What a problem's code hands back without what it promised is told by name, and by whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from serinus.core.card import Problem
from serinus.core.errors import ProblemCodeError
from serinus.features import promises

WHERE = "problems/toy/dataset.py: requests()"


def asked() -> pd.DataFrame:
    times = pd.to_datetime(["2024-01-01", "2024-01-02"])
    return pd.DataFrame({"request_id": ["r1", "r2"], "entity": [1, 2], "unit": ["1", "2"], "as_of": times})


def rows() -> pd.DataFrame:
    return pd.DataFrame({"request": [0, 1], "item": ["a", "b"], "label": [0, 1], "value": [0.0, 2.0]})


def test_what_is_promised_passes(renewal_card: Problem) -> None:
    promises.keep(promises.requests(asked(), rows(), renewal_card), WHERE)


@pytest.mark.parametrize("column", promises.REQUEST_COLUMNS)
def test_a_missing_column_of_requests_is_told(renewal_card: Problem, column: str) -> None:
    with pytest.raises(ProblemCodeError, match=rf"requests\(\) gave requests without the column {column}"):
        promises.keep(promises.requests(asked().drop(columns=column), rows(), renewal_card), WHERE)


@pytest.mark.parametrize("column", promises.ROW_COLUMNS)
def test_a_missing_column_of_rows_is_told(renewal_card: Problem, column: str) -> None:
    with pytest.raises(ProblemCodeError, match=f"gave rows without the column {column}"):
        promises.keep(promises.requests(asked(), rows().drop(columns=column), renewal_card), WHERE)


@pytest.mark.parametrize(
    ("requests", "of_rows", "told"),
    [
        ({"request_id": ["r1", "r1"]}, {}, "the request_id r1 twice"),
        ({"as_of": ["2024-01-01", "2024-01-02"]}, {}, "not as times"),
        ({}, {"request": [0, 2]}, "whose request is no position in the requests"),
        ({}, {"request": [-1, 0]}, "whose request is no position in the requests"),
    ],
)
def test_what_cannot_be_joined_is_told(
    renewal_card: Problem, requests: dict[str, list[Any]], of_rows: dict[str, list[Any]], told: str
) -> None:
    with pytest.raises(ProblemCodeError, match=told):
        promises.keep(promises.requests(asked().assign(**requests), rows().assign(**of_rows), renewal_card), WHERE)


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        (lambda: promises.tables(None), "gave no tables"),
        (lambda: promises.tables({"months": [1]}), "gave a list as table months"),
        (lambda: promises.sources(rows()), "not rows by the name of a view"),
        (lambda: promises.sources({"v": None}), "gave a NoneType for view v"),
        (lambda: promises.outcomes(pd.DataFrame({"unit": []})), "gave outcomes without the columns request_id, name"),
    ],
)
def test_another_kind_of_thing_is_told(promise: Callable[[], Iterator[str]], told: str) -> None:
    with pytest.raises(ProblemCodeError, match=told):
        promises.keep(promise(), WHERE)
