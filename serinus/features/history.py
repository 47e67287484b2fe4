"""Finds, for every row of a batch, the elements of its entity's history that concern its item or the item's group.

Invariant: the answer for a row is a function of that row's entity and item; rows never see each other. The whole batch
is matched by one sort instead of a loop, so the same code is fast for one request and for a training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from serinus.features.batch import Floats, Ints, Objects, Ragged


@dataclass(frozen=True)
class HistoryIndex:
    """Elements of all histories sorted by (entity, key), and the span of them that matches each row of the batch."""

    order: Ints
    start: Ints
    stop: Ints
    entity_row: Ints
    offsets: Ints

    @classmethod
    def build(cls, history: Ragged, entity_row: Ints, values: Objects | Floats, value_row: Ints) -> HistoryIndex:
        """`history` has one list an entity row; row i of the batch looks for `values[value_row[i]]` in its own."""
        codes, wanted = _codes(history.values, values)
        width = int(max(codes.max(initial=0), wanted.max(initial=0))) + 2
        owner = np.repeat(np.arange(len(history), dtype=np.int64), history.lengths())
        element = owner * width + codes + 1
        order = np.argsort(element, kind="stable")
        ranked = element[order]
        sought = entity_row * width + wanted[value_row] + 1
        start, stop = np.searchsorted(ranked, sought, "left"), np.searchsorted(ranked, sought, "right")
        stop = np.where(wanted[value_row] < 0, start, stop)
        return cls(order, start, stop, entity_row, history.offsets)

    def total(self, counts: Floats) -> Floats:
        """Sum of `counts` over each row's matches; 0 where nothing matches."""
        running = np.concatenate([[0.0], np.cumsum(counts[self.order])])
        return np.asarray(running[self.stop] - running[self.start])

    def whole(self, counts: Floats) -> Floats:
        """Sum of `counts` over the whole history of each row's entity."""
        running = np.concatenate([[0.0], np.cumsum(counts)])
        sums: Floats = running[self.offsets[1:]] - running[self.offsets[:-1]]
        return sums[self.entity_row]

    def latest(self, times: Floats) -> Floats:
        """The largest of `times` over each row's matches; NaN where none is known, or nothing matches."""
        out = np.full(len(self.start), np.nan)
        hit = self.stop > self.start
        if hit.any():
            spans = np.stack([self.start[hit], self.stop[hit]], axis=1).ravel()
            padded = np.append(times[self.order], -np.inf)
            out[hit] = np.fmax.reduceat(padded, spans)[::2]
        return out


def _codes(elements: Objects | Floats, values: Objects | Floats) -> tuple[Ints, Ints]:
    """Both arrays as codes of one dictionary, -1 for missing. Text and numbers are compared as what they are."""
    if elements.dtype == object or values.dtype == object:
        codes = _text_codes([*elements.tolist(), *values.tolist()])
        return codes[: len(elements)], codes[len(elements) :]
    known, codes = np.unique(np.concatenate([elements, values]), return_inverse=True)
    codes = np.where(np.isnan(known[codes]), -1, codes).astype(np.int64)
    return codes[: len(elements)], codes[len(elements) :]


def _text_codes(texts: list[object]) -> Ints:
    # A plain dictionary is as fast as arrow's and leaves arrow out of the predictor. Missing is None, or NaN.
    present = (text for text in dict.fromkeys(texts) if text is not None and text == text)
    known = {text: code for code, text in enumerate(present)}
    return np.fromiter(map(known.get, texts, repeat(-1)), np.int64, len(texts))
