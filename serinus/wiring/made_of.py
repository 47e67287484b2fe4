"""What the result of a step is made of: code, card, inputs, parameters and libraries, each by its name.

Invariant: two equal answers mean that the step would make the same again; so a step names here all that it reads. What
is missing from the table below would be reused although it changed: tests/pipeline/test_renewal_made_of.py watches.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import serinus
from serinus.wiring.project import LoadedProblem, Project

# The champion is an input of the evaluation, but no artifact of the run: others move it.
INPUT = "input "
CHAMPION, NO_CHAMPION = f"{INPUT}champion", "none"
CODE, CONTRACT, REPO = "code", "contract", "feature_repo"
LIBRARIES = (
    *("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "lightgbm"),
    *("duckdb", "feast", "great-expectations", "pydantic"),
)
# Rooms that no step runs: what is changed there changes no result.
OTHER_ROOMS = frozenset({"cli", "evidence", "report", "rollout", "serving"})


@dataclass(frozen=True)
class Uses:
    """What a step reads: results of other steps, parts of the card by their paths, and kinds of the problem's files."""

    after: tuple[str, ...] = ()
    card: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


_SOURCE = ("name", "data.source", "data.snapshot_time")
_FIT = ("seed", "feature_service", "negative_sampling_rate", "calibration", "calibration_window", "candidates")
_ASKED = ("snapshot_time", "seed", "features", "feature_service", "splits", "negative_sampling_rate", "baselines")
USES = {
    "prepare": Uses(card=_SOURCE),
    "contract_raw": Uses(("prepare",), (*_SOURCE, "data.contract"), (CONTRACT,)),
    "features": Uses(("contract_raw",), ("name", "data.features", "data.feature_service"), (CODE, REPO)),
    "training_set": Uses(
        ("features",), ("name", "requirements", "framing", *(f"data.{one}" for one in _ASKED)), (CODE, REPO)
    ),
    "contract_training": Uses(("training_set",), (*_SOURCE, "data.contract"), (CONTRACT,)),
    "train": Uses(("training_set", "contract_training"), ("name", "framing", *(f"data.{one}" for one in _FIT))),
    "evaluate": Uses(("training_set", "train"), ("name", "requirements", "framing", "data", "operation.gates")),
    "gates": Uses(("evaluate", "train"), ("name", "data.candidates", "operation.gates")),
    "register": Uses(("gates", "evaluate", "train"), ("name", *(f"data.{one}" for one in _FIT))),
    "materialize": Uses(("register", "features"), ("name", "data.snapshot_time"), (REPO,)),
    "deploy": Uses(("materialize", "register"), ("name",)),
}
# Which step an artifact comes from, by the name under which others read it.
MAKER = {
    "raw": "prepare",
    "accepted": "contract_raw",
    "tables": "features",
    "training_set": "training_set",
    "verdict": "contract_training",
    "evaluation": "evaluate",
    "gates": "gates",
    **{one: f"train_{one}" for one in ("linear", "gbdt", "neural")},
}


def kind(step: str) -> str:
    """The row of the table: `train` for `train_gbdt`."""
    return "train" if step.startswith("train_") else step


def made_of(
    project: Project,
    problem: LoadedProblem,
    step: str,
    reads: Mapping[str, str],
    parameters: Mapping[str, str],
) -> dict[str, str]:
    """Everything that the result of a step depends on now; empty for a step that is always run (the report)."""
    uses = USES.get(kind(step))
    if uses is None:
        return {}
    found = {f"card {path}": value for path, value in _card(problem, uses.card)}
    found |= {f"file {name}": content_hash(path) for name, path in _files(project, problem, uses.files)}
    found |= {INPUT + name: content_hash(Path(path)) for name, path in reads.items()}
    found |= {f"parameter {name}": value for name, value in parameters.items()}
    return found | _versions() | {"code of serinus": _own_code()}


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, or over all files below a folder with their names; empty when there is nothing."""
    if path.is_file():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return _hash(files, path) if files else ""


def _hash(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{content_hash(path)}\0".encode())
    return digest.hexdigest()


def _card(problem: LoadedProblem, wanted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for path, value in _leaves(problem.card.model_dump(mode="json", by_alias=True), ""):
        if any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in wanted):
            yield path, value if isinstance(value, str) else json.dumps(value)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and node:
        for place, value in enumerate(node):
            yield from _leaves(value, f"{path}[{place}]")
    else:
        yield path, node


def _files(project: Project, problem: LoadedProblem, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Files of the problem by the names that a person knows them by. A helper module beside the two is code, too."""
    found: list[Path] = []
    if CODE in kinds:
        found += sorted(problem.folder.rglob("*.py"))
    if CONTRACT in kinds:
        found.append(problem.folder / problem.card.data.contract)
    if REPO in kinds:
        found += [project.declarations(problem.card.name), project.feature_repo / "feature_store.yaml"]
    for path in found:
        if path.is_file():
            yield path.relative_to(project.root).as_posix(), path


@functools.cache
def _versions() -> dict[str, str]:
    found = {"library python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # a lean image: what is not there made nothing
            found[f"library {name}"] = metadata.version(name)
    return found


@functools.cache
def _own_code() -> str:
    """Of the package and of the components, which stand beside it."""
    package = Path(serinus.__file__).parent
    files = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in OTHER_ROOMS]
    files += (package.parent / "components").glob("*.py")
    return _hash(sorted(files), package.parent)
