"""The scorers a bundle can hold: linear, gradient-boosted trees, a small neural network.

Invariant: a scorer maps a float32 matrix (rows, inputs) to float64 log-odds (rows,), reads only its own file, and
gives the same answer after `save` and `load`. No file holds code: LightGBM's text format, or plain numpy arrays.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Protocol
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from serinus.core.errors import BundleError

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]
ONE_THREAD_ROWS = 1_000
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


class Scorer(Protocol):
    """What evaluation and serving need of a model."""

    kind: ClassVar[str]
    file: ClassVar[str]

    def log_odds(self, rows: Matrix) -> Floats:
        """Uncalibrated log-odds, one a row."""

    def save(self, folder: Path) -> None:
        """Writes `file` into `folder`."""


class LinearScorer:
    """Logistic regression on standardized inputs: weights · (x − mean) / scale + bias."""

    kind: ClassVar[str] = "linear"
    file: ClassVar[str] = "weights.npz"

    def __init__(self, mean: Floats, scale: Floats, weights: Floats, bias: float) -> None:
        self.mean, self.scale, self.weights, self.bias = mean, scale, weights, bias

    def log_odds(self, rows: Matrix) -> Floats:
        """See `Scorer`. Summed column by column, so the result of a row does not depend on the batch it is in."""
        return _affine((rows - self.mean) / self.scale, self.weights[:, None])[:, 0] + self.bias

    def save(self, folder: Path) -> None:
        """Four arrays, float64."""
        arrays = {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": np.array(self.bias)}
        _save(folder / self.file, arrays)

    @classmethod
    def load(cls, folder: Path) -> LinearScorer:
        """From `weights.npz`."""
        a = _load(folder / cls.file)
        return cls(a["mean"], a["scale"], a["weights"], float(a["bias"]))


class NeuralScorer:
    """A multilayer perceptron with ReLU layers on standardized inputs and one logit as output."""

    kind: ClassVar[str] = "neural"
    file: ClassVar[str] = "weights.npz"

    def __init__(self, mean: Floats, scale: Floats, layers: list[tuple[Floats, Floats]]) -> None:
        self.mean, self.scale, self.layers = mean, scale, layers

    def log_odds(self, rows: Matrix) -> Floats:
        """See `Scorer`."""
        values: Floats = np.asarray((rows - self.mean) / self.scale, dtype=np.float64)
        for depth, (weights, bias) in enumerate(self.layers):
            values = _affine(values, weights) + bias
            if depth < len(self.layers) - 1:
                values = np.maximum(values, 0.0)
        return values[:, 0]

    def save(self, folder: Path) -> None:
        """Mean, scale, and `w<i>`, `b<i>` for each layer."""
        arrays = {"mean": self.mean, "scale": self.scale}
        for depth, (weights, bias) in enumerate(self.layers):
            arrays |= {f"w{depth}": weights, f"b{depth}": bias}
        _save(folder / self.file, arrays)

    @classmethod
    def load(cls, folder: Path) -> NeuralScorer:
        """From `weights.npz`."""
        a = _load(folder / cls.file)
        depth = sum(name.startswith("w") for name in a)
        return cls(a["mean"], a["scale"], [(a[f"w{i}"], a[f"b{i}"]) for i in range(depth)])


class GbdtScorer:
    """A LightGBM booster, kept as its text model."""

    kind: ClassVar[str] = "gbdt"
    file: ClassVar[str] = "model.txt"

    def __init__(self, text: str) -> None:
        import lightgbm  # 1.5 s: only where a bundle holds trees

        self.text = text
        self._booster: Any = lightgbm.Booster(model_str=text)

    def log_odds(self, rows: Matrix) -> Floats:
        """See `Scorer`. One thread for a request, whose rows are too few to share out; all for a whole window."""
        threads = 1 if len(rows) <= ONE_THREAD_ROWS else 0
        return np.asarray(self._booster.predict(rows, raw_score=True, num_threads=threads), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """LightGBM's own text format."""
        (folder / self.file).write_text(self.text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> GbdtScorer:
        """From `model.txt`."""
        return cls((folder / cls.file).read_text(encoding="utf-8"))


_KINDS: dict[str, type[LinearScorer] | type[NeuralScorer] | type[GbdtScorer]] = {
    scorer.kind: scorer for scorer in (LinearScorer, NeuralScorer, GbdtScorer)
}


def load_scorer(kind: str, folder: Path) -> Scorer:
    """The scorer of a bundle folder. Raises `BundleError` when its file is missing, damaged or of an unknown kind."""
    if kind not in _KINDS:
        raise BundleError(f"{folder} holds an unknown kind of model: {kind}", hint=f"known: {', '.join(_KINDS)}")
    try:
        return _KINDS[kind].load(folder)
    except (OSError, KeyError, ValueError, BadZipFile) as fault:
        raise BundleError(f"cannot load the {kind} model of {folder}", cause=str(fault)) from fault


def _affine(values: NDArray[Any], weights: Floats) -> Floats:
    """values @ weights, each row by itself: BLAS picks kernels by batch size, which changes the last bits of a row."""
    return np.asarray(np.einsum("ij,jk->ik", values, weights, optimize=False), dtype=np.float64)


def _save(path: Path, arrays: dict[str, Any]) -> None:
    """A .npz whose bytes depend on the arrays alone.

    Not by `np.savez`: it streams the members, and what a streamed member's header says changed within CPython 3.11.
    """
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for name, values in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, np.asarray(values, dtype=np.float64, order="C"), allow_pickle=False)
            archive.writestr(ZipInfo(f"{name}.npy", date_time=_NO_DATE), member.getvalue())


def _load(path: Path) -> dict[str, Floats]:
    # Opened here: numpy leaves a damaged file open.
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
