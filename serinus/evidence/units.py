"""Units as numbers, and which of them were seen: what folds over many rows remember of a name.

Invariant: a number is given once and stays; remembering a unit takes a byte a fold, not its name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Codes:
    """A number for each text, in order of first appearance."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, texts: pa.ChunkedArray) -> Ints:
        """Of each text, old or new."""
        found = texts.combine_chunks().dictionary_encode()
        known = self._known
        new = np.array([known.setdefault(one, len(known)) for one in found.dictionary.to_pylist()], dtype=np.int64)
        return new[found.indices.to_numpy()] if len(new) else new


class Seen:
    """Which numbers came already."""

    def __init__(self) -> None:
        self._seen = np.zeros(0, dtype=np.bool_)

    def first(self, numbers: Ints) -> Bools:
        """For each whether it is the first of its kind, here and before."""
        found = np.zeros(len(numbers), dtype=np.bool_)
        if len(numbers):
            self._seen = grown(self._seen, (int(numbers.max()) + 1,))
            known, first = np.unique(numbers, return_index=True)
            found[first] = ~self._seen[known]
            self._seen[known] = True
        return found


def grown(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The array with room for `shape` in its first dimensions; it doubles along the first, and the new is zero."""
    have = array.shape[: len(shape)]
    if all(one >= least for one, least in zip(have, shape, strict=True)):
        return array
    first = have[0] if have[0] >= shape[0] else max(shape[0], 2 * have[0])
    wider = np.zeros((first, *map(max, have[1:], shape[1:]), *array.shape[len(shape) :]), dtype=array.dtype)
    wider[tuple(map(slice, have))] = array
    return wider
