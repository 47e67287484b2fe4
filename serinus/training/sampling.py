"""Negative downsampling by hash: which training rows are kept is a property of the row, not of the run (D20).

Invariant: every positive stays; a negative stays with probability `rate`, whatever other rows there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serinus.core.hashing import combine, text_keys, uniform


def kept_rows(
    request_ids: NDArray[np.str_], items: NDArray[np.str_], labels: NDArray[np.int64], *, rate: float, seed: int
) -> NDArray[np.bool_]:
    """True for rows that stay in the training set; all arrays have one element a row."""
    if rate >= 1.0:
        return np.ones(len(labels), dtype=np.bool_)
    row = combine(text_keys(request_ids), text_keys(items))
    draw = uniform(combine(row, np.full(len(row), seed, dtype=np.uint64)))
    return np.asarray((labels == 1) | (draw < rate), dtype=np.bool_)
