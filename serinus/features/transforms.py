"""Evaluates model inputs over a batch: the one implementation behind training sets and predictions.

Invariant: row i of the matrix depends on row i of the batch only; the result is float32 and finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serinus.client.written import LARGEST
from serinus.core.errors import DataError
from serinus.features.batch import Batch, Column, Floats, Ints, Objects, Ragged
from serinus.features.history import HistoryIndex
from serinus.features.inputs import Clock, Cosine, DaysSince, Equals, Given, History, Inputs, Ratio, Value

Matrix = NDArray[np.float32]
DAY = 86_400.0
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday


def matrix(inputs: Inputs, batch: Batch) -> Matrix:
    """The model matrix, shape (rows, inputs), float32, every value finite; the default for what is not in float32."""
    view = _Rows(batch)
    out = np.empty((len(batch), len(inputs)), dtype=np.float32)
    for position, one in enumerate(inputs):
        values = _EVALUATE[type(one)](one, view)
        out[:, position] = np.where(np.abs(values) <= LARGEST, values, one.default)
    return out


class _Rows:
    """Columns of the batch seen from its rows; indexes over a history are built once and shared by inputs."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._indexes: dict[tuple[str, str], HistoryIndex] = {}

    def find(self, name: str) -> tuple[Column, Ints]:
        """The column and the row of it that belongs to each row of the batch."""
        if name in self.batch.entity.columns:
            return self.batch.entity.columns[name], self.batch.entity_row
        if self.batch.item is not None and name in self.batch.item.columns:
            return self.batch.item.columns[name], self.batch.item_row
        raise DataError(
            f"feature {name} was not looked up",
            hint="the feature service of the card must contain every column that features.py reads",
        )

    def plain(self, name: str) -> NDArray[Any]:
        column, rows = self.find(name)
        if isinstance(column, Ragged):
            raise DataError(f"feature {name} is a list; this input needs a single value")
        return column[rows]

    def numbers(self, name: str) -> Floats:
        return self.plain(name).astype(np.float64, copy=False)

    def ragged(self, name: str) -> tuple[Ragged, Ints]:
        column, rows = self.find(name)
        if not isinstance(column, Ragged):
            raise DataError(f"feature {name} is a single value; this input needs a list")
        return column, rows

    def entity_list(self, name: str) -> Ragged:
        if name not in self.batch.entity.columns:
            raise DataError(f"history {name} must be a column of the entity's own views")
        return self.ragged(name)[0]

    def match_values(self, match: str) -> tuple[Objects | Floats, Ints]:
        """What history elements are compared with: one value for each row of the item side."""
        if self.batch.item is None:
            raise DataError("a history input needs items; kind scoring has none")
        if match == "id":
            return self.batch.item.ids, self.batch.item_row
        column, rows = self.find(match)
        if isinstance(column, Ragged):
            raise DataError(f"match {match} must be a single value of the item")
        return column, rows

    def history(self, keys: str, match: str) -> HistoryIndex:
        known = self._indexes.get((keys, match))
        if known is None:
            values, rows = self.match_values(match)
            known = HistoryIndex.build(self.entity_list(keys), self.batch.entity_row, values, rows)
            self._indexes[keys, match] = known
        return known


def _scaled(values: Floats, scale: str) -> Floats:
    return values if scale == "raw" else np.sign(values) * np.log1p(np.abs(values))


def _value(one: Value, rows: _Rows) -> Floats:
    return _scaled(rows.numbers(one.of), one.scale)


def _days(as_of: Floats, then: Floats, cap: float, scale: str) -> Floats:
    return _scaled(np.clip((as_of - then) / DAY, 0.0, cap), scale)


def _days_since(one: DaysSince, rows: _Rows) -> Floats:
    return _days(rows.batch.as_of, rows.numbers(one.of), one.cap, one.scale)


def _equals(one: Equals, rows: _Rows) -> Floats:
    return np.asarray(rows.plain(one.of) == one.value, dtype=np.float64)


def _ratio(one: Ratio, rows: _Rows) -> Floats:
    top, bottom = rows.numbers(one.of), rows.numbers(one.over)
    if one.scale == "log":
        return np.log1p(np.maximum(top, 0.0)) - np.log1p(np.maximum(bottom, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return top / bottom


def _vectors(column: Ragged, name: str) -> NDArray[np.float32]:
    """A list column as rows of one length; a missing vector is all NaN."""
    lengths = column.lengths()
    width = int(lengths.max(initial=0))
    if not np.isin(lengths, (0, width)).all():
        raise DataError(f"feature {name} holds vectors of different lengths")
    out = np.full((len(column), width), np.nan, dtype=np.float32)
    out[lengths > 0] = np.asarray(column.values, dtype=np.float32).reshape(-1, width) if width else 0.0
    return out


def _cosine(one: Cosine, rows: _Rows) -> Floats:
    (left, left_rows), (right, right_rows) = rows.ragged(one.left), rows.ragged(one.right)
    a, b = _unit(_vectors(left, one.left)), _unit(_vectors(right, one.right))
    if a.shape[1] != b.shape[1]:
        missing = min(a.shape[1], b.shape[1]) == 0
        if not missing:
            raise DataError(f"{one.left} and {one.right} are vectors of different lengths")
        return np.full(len(rows.batch), np.nan)
    return np.asarray(np.einsum("ij,ij->i", a[left_rows], b[right_rows], dtype=np.float64))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(vectors / norms)


def _clock(one: Clock, rows: _Rows) -> Floats:
    if one.part == "hour":
        return np.floor(rows.batch.as_of % DAY / 3600.0)
    return (np.floor(rows.batch.as_of / DAY) + _EPOCH_WEEKDAY) % 7


def _given(one: Given, rows: _Rows) -> Floats:
    if one.of not in rows.batch.context:
        raise DataError(f"no request carries {one.of}", hint="name it in framing.request.context of the card")
    return _scaled(rows.batch.context[one.of], one.scale)


def _history(one: History, rows: _Rows) -> Floats:
    index = rows.history(one.keys, one.match)
    if one.measure == "any":
        return (index.stop > index.start).astype(np.float64)
    if one.measure == "days_since":
        latest = index.latest(_numbers_of(rows, one.times, one))
        return _days(rows.batch.as_of, latest, one.cap, one.scale)
    counts = np.nan_to_num(_numbers_of(rows, one.counts, one), copy=True)
    matched = index.total(counts)
    if one.measure == "share":
        return _divide(matched, index.whole(counts))
    if one.measure == "rate":
        return _divide(matched, rows.numbers(_required(one.over, one, "over")))
    return _scaled(matched, one.scale)


def _divide(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return top / bottom


def _numbers_of(rows: _Rows, name: str | None, one: History) -> Floats:
    column = rows.entity_list(_required(name, one, "times" if one.measure == "days_since" else "counts"))
    return column.values.astype(np.float64, copy=False)


def _required(name: str | None, one: History, field: str) -> str:
    if name is None:
        raise DataError(f"input {one.name}: measure {one.measure} needs {field}")
    return name


_EVALUATE: dict[type, Callable[[Any, _Rows], Floats]] = {
    Value: _value,
    DaysSince: _days_since,
    Equals: _equals,
    Ratio: _ratio,
    Cosine: _cosine,
    Clock: _clock,
    Given: _given,
    History: _history,
}
