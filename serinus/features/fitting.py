"""Which stored numbers a model input can hold: finite ones within float32.

Invariant: offline and online columns go through here, so what does not fit is missing in both, and never an infinity
in a matrix.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from serinus.client.written import LARGEST
from serinus.features.batch import Column, Floats, Ragged

Bools: TypeAlias = NDArray[np.bool_]


def fitted(column: Column) -> tuple[Column, Bools | None]:
    """The column with NaN for what does not fit, and the rows that hold such a value; None where all fit."""
    values = column.values if isinstance(column, Ragged) else column
    if values.dtype == object:
        return column, None
    unfit = np.abs(values) > LARGEST  # NaN is missing already, and not above anything
    if not unfit.any():
        return column, None
    cleared: Floats = np.where(unfit, np.nan, values)
    if not isinstance(column, Ragged):
        return cleared, unfit
    before = np.concatenate([[0], np.cumsum(unfit)])
    return Ragged(cleared, column.offsets), np.diff(before[column.offsets]) > 0
