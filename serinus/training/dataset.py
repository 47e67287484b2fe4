"""The training set on disk: the model matrix of each split, what belongs to its rows, and the test window's lookups.

Invariant: rows are sorted by request and item; the matrix of a split and its rows have the same order and length; the
hash covers every value, so equal hashes mean equal training input.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serinus.core.card import Problem
from serinus.core.errors import DataError
from serinus.features.batch import Batch
from serinus.features.batch_files import read_batch, write_batch
from serinus.features.dataset import Requests
from serinus.features.inputs import INPUTS, Inputs
from serinus.features.transforms import Matrix, matrix
from serinus.training.sampling import kept_rows

SPLITS = ("train", "validate", "test")
_INPUTS, _BATCH = "inputs.json", "test_batch"


@dataclass(frozen=True)
class Split:
    """One window: `rows` has request (rising from 0), request_id, entity, item, label, value, as_of, month."""

    matrix: Matrix
    rows: pd.DataFrame

    @property
    def labels(self) -> NDArray[np.float64]:
        """0 or 1, one a row."""
        return self.rows["label"].to_numpy(dtype=np.float64)


class TrainingSet:
    """A training-set folder, read split by split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / _INPUTS).is_file():
            raise DataError(f"{folder} is not a training set", cause=f"{_INPUTS} is missing")

    def inputs(self) -> Inputs:
        """The model inputs, in the order of the matrix columns."""
        return INPUTS.validate_json((self.folder / _INPUTS).read_bytes())

    def split(self, name: str) -> Split:
        """One of train, validate, test."""
        rows = pq.ParquetFile(self.folder / f"{name}.parquet").read().to_pandas()
        return Split(np.load(self.folder / f"{name}.npy", allow_pickle=False), rows)

    def test_batch(self) -> Batch:
        """What was looked up for the test rows, for models with inputs of their own (an older champion)."""
        return read_batch(self.folder / _BATCH)

    def content_hash(self) -> str:
        """SHA-256 over the inputs and all splits."""
        digest = hashlib.sha256((self.folder / _INPUTS).read_bytes())
        for name in SPLITS:
            split = self.split(name)
            digest.update(np.ascontiguousarray(split.matrix).tobytes())
            for column in ("request_id", "item", "label", "value"):
                digest.update(pd.util.hash_pandas_object(split.rows[column], index=False).to_numpy().tobytes())
        return digest.hexdigest()


def write_training_set(folder: Path, card: Problem, inputs: Inputs, asked: Requests, batch: Batch) -> TrainingSet:
    """Splits by time, drops a share of the training negatives, evaluates the inputs and writes all of it.

    `batch` has the rows of `asked.rows`, in order. Raises `DataError` when a split has no positive row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _described(asked)
    day = rows["as_of"].dt.date.to_numpy()
    for name, window in card.data.splits.items():
        inside = (day >= window.start) & (day < window.end)
        if name == "train":
            inside &= _sampled(rows, card)
        keep = np.flatnonzero(inside)
        if not rows["label"].to_numpy()[keep].any():
            raise DataError(
                f"split {name} ({window.start} to {window.end}) has no positive row",
                cause=f"{len(keep)} rows lie in it",
                hint="compare data.splits of the card with the days of the log",
            )
        part = batch.rows(keep)
        np.save(folder / f"{name}.npy", matrix(inputs, part), allow_pickle=False)
        _numbered(rows.iloc[keep]).to_parquet(folder / f"{name}.parquet", index=False)
        if name == "test":
            write_batch(folder / _BATCH, part)
    (folder / _INPUTS).write_text(json.dumps([one.model_dump() for one in inputs], indent=1), encoding="utf-8")
    return TrainingSet(folder)


def _described(asked: Requests) -> pd.DataFrame:
    """Rows with what they inherit from their request."""
    rows = asked.rows.reset_index(drop=True)
    request = rows["request"].to_numpy()
    about = asked.requests.assign(month=asked.requests["as_of"].dt.strftime("%Y-%m"))
    for column in ("request_id", "entity", "as_of", "month"):
        rows[column] = about[column].to_numpy()[request]
    return rows


def _sampled(rows: pd.DataFrame, card: Problem) -> NDArray[np.bool_]:
    ids, items = rows["request_id"].to_numpy().astype(str), rows["item"].to_numpy().astype(str)
    rate, seed = card.data.negative_sampling_rate, card.data.seed
    return kept_rows(ids, items, rows["label"].to_numpy(), rate=rate, seed=seed)


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Requests numbered from 0 within the split, as the KPI formulas expect."""
    request = np.unique(rows["request"].to_numpy(), return_inverse=True)[1]
    return rows.assign(request=request)
