"""Bundles: the same answer after a reload, a hash of what matters, and no code in any file."""

from __future__ import annotations

import hashlib
import json
import pickletools
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from serinus.core.calibration import Calibration
from serinus.core.errors import BundleError
from serinus.model.bundle import (
    Bundle,
    FeatureSource,
    Golden,
    Lineage,
    Manifest,
    content_hash,
    read_bundle,
    write_bundle,
)
from serinus.model.scorers import GbdtScorer, LinearScorer, NeuralScorer, Scorer

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(40, 3)).astype(np.float32)


def _linear() -> Scorer:
    return LinearScorer(np.zeros(3), np.ones(3), np.array([1.0, -2.0, 0.5]), 0.1)


def _neural() -> Scorer:
    layers = [(RNG.normal(size=(3, 4)), RNG.normal(size=4)), (RNG.normal(size=(4, 1)), RNG.normal(size=1))]
    return NeuralScorer(ROWS.mean(axis=0).astype(float), np.ones(3), layers)


def _gbdt() -> Scorer:
    import lightgbm

    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
    labels = (ROWS[:, 0] > 0).astype(float)
    return GbdtScorer(lightgbm.train(settings, lightgbm.Dataset(ROWS, labels), 5).model_to_string())


KINDS = pytest.mark.parametrize("make", [_linear, _neural, _gbdt], ids=["linear", "neural", "gbdt"])


def _manifest(scorer: Scorer, **changes: object) -> Manifest:
    manifest = Manifest(
        problem="toy",
        problem_kind="scoring",
        entity="account",
        item=None,
        candidate="one",
        scorer=scorer.kind,
        inputs=tuple({"name": f"x{i}"} for i in range(3)),
        features=FeatureSource(service="toy", service_hash="0" * 64, columns=()),
        calibration=Calibration(sampling_rate=0.3),
        profile=(),
        golden=Golden(rows=(), probabilities=()),
        lineage=Lineage(),
    ).model_copy(update=changes)
    expected = Bundle(manifest, scorer).probabilities(ROWS)
    golden = Golden(
        rows=tuple(tuple(float(v) for v in row) for row in ROWS), probabilities=tuple(float(p) for p in expected)
    )
    return manifest.model_copy(update={"golden": golden})


def _written(folder: Path, scorer: Scorer, **changes: object) -> str:
    return write_bundle(folder, _manifest(scorer, **changes), scorer)


@KINDS
def test_a_reloaded_bundle_gives_the_same_probabilities(make: object, tmp_path: Path) -> None:
    scorer = make()  # type: ignore[operator]
    _written(tmp_path, scorer)
    again = read_bundle(tmp_path)
    assert np.array_equal(again.probabilities(ROWS), Bundle(_manifest(scorer), scorer).probabilities(ROWS))
    assert again.parity() == 0.0
    again.require_parity()


@KINDS
def test_a_row_scores_the_same_alone_and_among_others(make: object) -> None:
    """Readiness compares golden rows in batches of any size."""
    scorer = make()  # type: ignore[operator]
    alone = np.concatenate([scorer.log_odds(ROWS[i : i + 1]) for i in range(len(ROWS))])
    assert np.array_equal(alone, scorer.log_odds(ROWS))


@KINDS
def test_no_file_holds_a_pickle(make: object, tmp_path: Path) -> None:
    scorer = make()  # type: ignore[operator]
    _written(tmp_path, scorer)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bundle.json", scorer.file])
    for path in tmp_path.iterdir():
        assert not _is_pickle(path.read_bytes()), path.name
    if scorer.file.endswith(".npz"):
        with np.load(tmp_path / scorer.file, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype == np.float64 for name in arrays.files)


def _is_pickle(data: bytes) -> bool:
    try:
        for _ in pickletools.genops(data):
            pass
    except Exception:  # noqa: BLE001 - any fault means that it is none
        return False
    return True


def test_the_search_for_pickles_finds_one() -> None:
    import pickle

    assert _is_pickle(pickle.dumps({"a": 1}))


def test_the_hash_leaves_out_ids_times_and_latencies(tmp_path: Path) -> None:
    first = _written(tmp_path / "a", _linear())
    second = _written(
        tmp_path / "b",
        _linear(),
        lineage=Lineage(pipeline_run="other", created_at="2026-01-01", measured={"p50_ms": 3.0}),
    )
    assert first == second


@pytest.mark.parametrize(
    "changes",
    [{"calibration": Calibration(sampling_rate=0.4)}, {"candidate": "two"}, {"inputs": ({"name": "y"},) * 3}],
    ids=["calibration", "candidate", "inputs"],
)
def test_the_hash_covers_what_changes_an_answer(changes: dict[str, object], tmp_path: Path) -> None:
    assert _written(tmp_path / "a", _linear()) != _written(tmp_path / "b", _linear(), **changes)


def test_the_hash_covers_the_model_file(tmp_path: Path) -> None:
    before = _written(tmp_path, _gbdt())
    path = tmp_path / "model.txt"
    path.write_text(path.read_text() + "\n")
    assert content_hash(tmp_path) != before


def test_nan_is_refused(tmp_path: Path) -> None:
    """Trap: a null feature group scored as if it were zero."""
    _written(tmp_path, _gbdt())
    rows = ROWS.copy()
    rows[0, 1] = np.nan
    with pytest.raises(BundleError, match="NaN or infinity"):
        read_bundle(tmp_path).probabilities(rows)


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(BundleError, match="takes 3 inputs"):
        Bundle(_manifest(_linear()), _linear()).probabilities(ROWS[:, :2])


def test_a_bundle_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    _written(tmp_path, _linear())
    LinearScorer(np.zeros(3), np.ones(3), np.array([1.0, -2.0, 0.6]), 0.1).save(tmp_path)
    with pytest.raises(BundleError, match="does not reproduce its golden rows"):
        read_bundle(tmp_path).require_parity()


@pytest.mark.parametrize("damage", ["missing", "truncated", "format", "kind"])
def test_a_damaged_bundle_is_told(damage: str, tmp_path: Path) -> None:
    _written(tmp_path, _linear())
    if damage == "missing":
        (tmp_path / "weights.npz").unlink()
    elif damage == "truncated":
        (tmp_path / "weights.npz").write_bytes((tmp_path / "weights.npz").read_bytes()[:100])
    else:
        document = json.loads((tmp_path / "bundle.json").read_text())
        document |= {"format": "serinus.bundle/9"} if damage == "format" else {"scorer": "svm"}
        (tmp_path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError):
        read_bundle(tmp_path)


def test_the_bytes_of_weights_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    """As every release of Python 3.11 writes them: a digest of other bytes is another bundle of the same model."""
    _linear().save(tmp_path)
    data = (tmp_path / "weights.npz").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "e687bbadbb4ebd252b796d69960157fd6c67ef4018594311cb1a0e0f8866a4b7"
    with ZipFile(tmp_path / "weights.npz") as archive:
        for member in archive.infolist():
            assert (member.extract_version, member.flag_bits, member.extra) == (20, 0, b""), member.filename
            assert member.date_time == (1980, 1, 1, 0, 0, 0)


def test_how_an_array_lies_in_memory_is_not_in_the_bytes(tmp_path: Path) -> None:
    written = []
    for name, order in (("rows", "C"), ("columns", "F")):
        (tmp_path / name).mkdir()
        layer = (np.arange(12.0).reshape(3, 4).copy(order=order), np.zeros(4))  # type: ignore[call-overload]
        NeuralScorer(np.zeros(3), np.ones(3), [layer]).save(tmp_path / name)
        written.append((tmp_path / name / "weights.npz").read_bytes())
    assert written[0] == written[1]
