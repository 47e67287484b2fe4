"""Transforms: defaults, history matches, and the rule that a row never sees the other rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serinus.core.errors import DataError
from serinus.features.batch import Batch, Ragged, Side
from serinus.features.inputs import INPUTS, Inputs, columns_of
from serinus.features.transforms import matrix

NAN = float("nan")
HISTORY = {"keys": "h:items", "counts": "h:counts", "times": "h:times"}


def _ragged(lists: list[list[object]], *, text: bool = False) -> Ragged:
    flat = [value for one in lists for value in one]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return Ragged(np.array(flat, dtype=object if text else float), offsets)


def _batch(rows: list[tuple[int, int]], day: float = 10.0) -> Batch:
    """Two customers (the second without history) and three items."""
    entity = Side(
        np.array(["c1", "c2"], dtype=object),
        {
            "h:items": _ragged([["x", "y"], []], text=True),
            "h:counts": _ragged([[2, 3], []]),
            "h:times": _ragged([[0.0, 5 * 86_400.0], []]),
            "h:groups": _ragged([[7, 8], []]),
            "h:taste": _ragged([[1.0, 0.0], []]),
            "p:visits": np.array([4.0, NAN]),
            "p:country": np.array(["UK", None], dtype=object),
            "p:first": np.array([0.0, NAN]),
        },
    )
    item = Side(
        np.array(["x", "y", "z"], dtype=object),
        {
            "i:price": np.array([2.0, 0.0, NAN]),
            "i:group": np.array([7.0, 7.0, NAN]),
            "i:vector": _ragged([[1.0, 0.0], [0.0, 2.0], []]),
        },
    )
    entity_row, item_row = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(2))
    return Batch(entity, item, entity_row, item_row, np.full(len(rows), day * 86_400.0))


def _evaluate(declared: dict[str, object], rows: list[tuple[int, int]]) -> list[float]:
    inputs = INPUTS.validate_python([{"name": "one"} | declared])
    return [round(float(value), 6) for value in matrix(inputs, _batch(rows))[:, 0]]


ALL = [(0, 0), (0, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"op": "value", "of": "i:price", "default": 9}, [2, 0, 9, 2]),
        ({"op": "value", "of": "p:visits", "scale": "log"}, [round(np.log(5), 6)] * 3 + [0]),
        ({"op": "days_since", "of": "p:first", "default": -1}, [10, 10, 10, -1]),
        ({"op": "days_since", "of": "p:first", "cap": 4}, [4, 4, 4, 0]),
        ({"op": "equals", "of": "p:country", "value": "UK"}, [1, 1, 1, 0]),
        ({"op": "ratio", "of": "i:price", "over": "p:visits"}, [0.5, 0, 0, 0]),
        ({"op": "ratio", "of": "p:visits", "over": "i:price", "default": -1}, [2, -1, -1, -1]),
        ({"op": "cosine", "left": "h:taste", "right": "i:vector", "default": 0.5}, [1, 0, 0.5, 0.5]),
        ({"op": "clock", "part": "weekday"}, [6] * 4),  # 1970-01-11, a Sunday
        ({"op": "clock", "part": "hour"}, [0] * 4),
        ({"op": "history", "measure": "any", "keys": "h:items"}, [1, 1, 0, 0]),
        ({"op": "history", "measure": "count", **HISTORY}, [2, 3, 0, 0]),
        ({"op": "history", "measure": "share", **HISTORY}, [0.4, 0.6, 0, 0]),
        ({"op": "history", "measure": "rate", "over": "p:visits", **HISTORY}, [0.5, 0.75, 0, 0]),
        ({"op": "history", "measure": "days_since", "default": 99, **HISTORY}, [10, 5, 99, 99]),
        ({"op": "history", "measure": "count", **HISTORY, "keys": "h:groups", "match": "i:group"}, [2, 2, 0, 0]),
    ],
    ids=lambda value: value.get("measure", value.get("op")) if isinstance(value, dict) else "",
)
def test_each_input(declared: dict[str, object], expected: list[float]) -> None:
    assert _evaluate(declared, ALL) == expected


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=8))
def test_a_row_does_not_see_the_rows_beside_it(rows: list[tuple[int, int]]) -> None:
    """Trap: a count over the candidate list leaks the label. No input can express one."""
    inputs = _every_input()
    together = matrix(inputs, _batch(rows))
    alone = np.concatenate([matrix(inputs, _batch([row])) for row in rows])
    assert np.array_equal(together, alone)


def test_a_missing_group_becomes_the_declared_default_and_never_nan() -> None:
    """Trap: LightGBM reads a NaN it never saw in training as 0, without a word."""
    values = matrix(_every_input(), _batch([(1, 2)]))
    assert np.isfinite(values).all()
    assert values[0, 0] == np.float32(9.5)


def test_columns_of_names_every_stored_column() -> None:
    expected = "h:counts h:groups h:items h:taste h:times i:group i:price i:vector p:first p:visits"
    assert columns_of(_every_input()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"op": "value", "of": "i:unknown"}, "feature i:unknown was not looked up"),
        ({"op": "value", "of": "h:items"}, "is a list"),
        ({"op": "history", "measure": "count", "keys": "h:items"}, "measure count needs counts"),
        ({"op": "cosine", "left": "p:visits", "right": "i:vector"}, "is a single value"),
    ],
)
def test_a_wrong_declaration_is_told(declared: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _evaluate(declared, ALL)


def _every_input() -> Inputs:
    return INPUTS.validate_python(
        [
            {"name": "price", "op": "value", "of": "i:price", "default": 9.5},
            {"name": "first", "op": "days_since", "of": "p:first"},
            {"name": "ratio", "op": "ratio", "of": "i:price", "over": "p:visits", "scale": "log"},
            {"name": "cosine", "op": "cosine", "left": "h:taste", "right": "i:vector"},
            {"name": "hour", "op": "clock", "part": "hour"},
            {"name": "count", "op": "history", "measure": "count", **HISTORY},
            {"name": "share", "op": "history", "measure": "share", **HISTORY},
            {"name": "since", "op": "history", "measure": "days_since", **HISTORY},
            {"name": "group", "op": "history", "measure": "share", **HISTORY, "keys": "h:groups", "match": "i:group"},
        ]
    )
