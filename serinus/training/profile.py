"""How each model input was distributed in training: kept in the bundle, so drift is judged against what was learned.

Invariant: bins cover all training values; zero has a bin of its own, because inputs that are mostly zero would collapse
quantile bins and look stable whatever happens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serinus.features.inputs import Inputs
from serinus.features.transforms import Matrix
from serinus.model.bundle import InputProfile

BINS = 10


def profiles(inputs: Inputs, rows: Matrix) -> tuple[InputProfile, ...]:
    """One profile an input, in order."""
    return tuple(_profile(one.name, one.default, rows[:, position]) for position, one in enumerate(inputs))


def _profile(name: str, default: float, values: NDArray[np.float32]) -> InputProfile:
    zero = values == 0
    rest = values[~zero].astype(np.float64)
    edges = np.unique(np.quantile(rest, np.linspace(0, 1, BINS + 1))) if len(rest) else np.zeros(0)
    counts = np.histogram(rest, bins=edges)[0] if len(edges) > 1 else np.array([len(rest)])
    return InputProfile(
        name=name,
        edges=tuple(float(edge) for edge in edges),
        shares=tuple(float(count) for count in counts / len(values)),
        zero_share=float(zero.mean()),
        default_share=float((values == np.float32(default)).mean()),
        mean=float(values.mean(dtype=np.float64)),
    )
