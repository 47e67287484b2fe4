"""`serinus problem check`: everything about a problem that would break a run later, found before one is started.

Invariant: nothing is written, no server is asked, and one fault does not hide another where both can be seen; each is
told by its file and its field or line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from serinus.core.card import Problem
from serinus.core.errors import CardError, SerinusError
from serinus.wiring.problem_code import telling
from serinus.wiring.project import LoadedProblem, Project, load_module, read_yaml

if TYPE_CHECKING:
    import pandas as pd

    from serinus.features.service import ServiceInfo
    from serinus.validation.contract import Contract

# Larger sources are not tried here: a check answers at once.
TRIED_BYTES = 2_000_000
_FUNCTIONS = {"dataset": ("clean", "requests"), "features": ("INPUTS", "views")}


@dataclass
class Checked:
    """What was found: faults by file, and what is not there yet or was not tried."""

    name: str
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    card: Problem | None = None
    contract: Contract | None = None

    @contextmanager
    def of(self, where: str) -> Iterator[None]:
        """A known fault of the block is one, or several, of that file."""
        try:
            yield
        except CardError as fault:
            lines = fault.cause.splitlines() if " fault" in fault.headline else [fault.headline, *_lines(fault.cause)]
            self.faults += [(where, line) for line in lines]
        except SerinusError as fault:
            why = "; ".join(line for line in _lines(fault.cause) if line not in fault.headline)
            self.faults.append((where, f"{fault.headline} ({why})" if why else fault.headline))

    def require(self) -> None:
        """Raises `CardError` with all faults."""
        if not self.faults:
            return
        files = list(dict.fromkeys(where for where, _ in self.faults))
        alone = len(files) == 1
        told = [line if alone or line.startswith(where) else f"{where}: {line}" for where, line in self.faults]
        raise CardError(
            f"{files[0] if alone else f'problem {self.name}'} has {len(told)} fault{'s' if len(told) > 1 else ''}",
            cause="\n".join(told),
            hint="the meaning of each field: docs/reference/problem-card.md",
        )


def check_problem(project: Project, name: str) -> Checked:
    """Raises `NotFound` for an unknown problem."""
    found = Checked(name)
    folder = f"{project.layout.problems}/{name}"
    loaded: LoadedProblem | None = None
    if not (project.problem_folder(name) / "problem.yaml").is_file():
        project.problem(name)  # says which there are
    with found.of(f"{folder}/problem.yaml"):
        loaded = project.problem(name)
        found.card = loaded.card
    raw = _raw_data(project, name)
    contract, features = str(raw.get("contract", "contract.yaml")), str(raw.get("features", "features.py"))
    with found.of(f"{folder}/{contract}"):
        from serinus.validation.contract import parse_contract

        path = project.problem_folder(name) / contract
        found.contract = parse_contract(read_yaml(path), where=f"{folder}/{contract}")
    definitions = _declarations(project, name, found)
    code = [_module(found, project.problem_folder(name) / file, folder) for file in ("dataset.py", features)]
    if loaded is None or definitions is None or None in code:
        return found
    service = _service(found, project, loaded.card, definitions)
    if service is not None:
        _inputs(found, loaded, service, f"{folder}/{features}", f"{folder}/problem.yaml")
    if service is not None and not found.faults:
        _data(found, loaded, service, folder)
    return found


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _raw_data(project: Project, name: str) -> dict[str, Any]:
    """The card's part `data` as it is written, for a card with faults still says where its files are."""
    try:
        document: Any = read_yaml(project.problem_folder(name) / "problem.yaml")
    except CardError:
        return {}
    data = document.get("data") if isinstance(document, dict) else None
    return data if isinstance(data, dict) else {}


def _module(found: Checked, path: Path, folder: str) -> ModuleType | None:
    where, module = f"{folder}/{path.name}", None
    with found.of(where):
        module = load_module(path)
        missing = [one for one in _FUNCTIONS.get(path.stem, _FUNCTIONS["features"]) if not hasattr(module, one)]
        found.faults += [(where, f"{one} is missing") for one in missing]
        module = None if missing else module
    return module


def _declarations(project: Project, name: str, found: Checked) -> ModuleType | None:
    """The Feast module, and Feast's configuration read as a run would read it, into a home that is thrown away."""
    from serinus.features.feast_store import FeastProject, check_config

    repo = project.feature_repo
    config, module = repo / "feature_store.yaml", None
    with found.of(_declared_in(project, name)):
        module = load_module(project.declarations(name))
    with found.of(f"{project.layout.feature_repo}/feature_store.yaml"), tempfile.TemporaryDirectory() as home:
        check_config(FeastProject(name, config, module or ModuleType(name), Path(home)))
    return module


def _declared_in(project: Project, name: str) -> str:
    return f"{project.layout.feature_repo}/{project.declarations(name).name}"


def _service(found: Checked, project: Project, card: Problem, definitions: ModuleType) -> ServiceInfo | None:
    from serinus.features.declared import declared_service, services

    where = _declared_in(project, card.name)
    service = declared_service(definitions, card.data.feature_service)
    if service is None:
        declared = ", ".join(services(definitions)) or "none"
        found.faults.append((where, f"no feature service {card.data.feature_service}; declared: {declared}"))
        return None
    for side in (card.framing.entity, card.framing.item):
        if side is not None and not service.of_entity(side):
            found.faults.append((where, f"feature service {service.name} has no view of entity {side}"))
    return service


def _inputs(found: Checked, loaded: LoadedProblem, service: ServiceInfo, code: str, card: str) -> None:
    """The inputs against the views, and what the card says of inputs and columns against both."""
    from serinus.features.input_check import Columns, input_faults

    columns, inputs = Columns.of(service, loaded.card), loaded.code.inputs
    found.faults += [(code, line) for line in input_faults(inputs, columns, loaded.card)]
    names, data = {one.name for one in inputs}, loaded.card.data
    for place, one in enumerate(data.baselines):
        sorts = {"sort_by": one.sort_by, "first_if_positive": (one.first_if_positive,) if one.first_if_positive else ()}
        found.faults += [
            (card, f"data.baselines[{place}].{key}: {name} is no input of {code}")
            for key, asked in sorts.items()
            for name in asked
            if name not in names
        ]
    found.faults += [
        (card, f"operation.gates[{place}].by: {name} is no input of {code}")
        for place, gate in enumerate(loaded.card.operation.gates)
        for name in (gate.by if gate.check == "slices" else ())
        if name not in names
    ]
    found.faults += [
        (card, f"requirements.kpis[{place}].covariate: {kpi.covariate} is in no view of {loaded.card.framing.entity}")
        for place, kpi in enumerate(loaded.card.requirements.kpis)
        if kpi.covariate and kpi.covariate not in columns.entity
    ]


def _data(found: Checked, loaded: LoadedProblem, service: ServiceInfo, folder: str) -> None:
    """A small source is taken through the problem's own functions; a large one, or none yet, is told."""
    source, name = loaded.source, loaded.card.data.source
    if not source.is_file():
        found.notes.append(f"data.source: {folder}/{name} is not there, so no function was tried")
        return
    if source.stat().st_size > TRIED_BYTES:
        found.notes.append(f"data.source: {folder}/{name} is large, so no function was tried on it")
        return
    from serinus.validation.source import read_table

    raw = None
    with found.of(f"{folder}/{name}"):
        raw = read_table(source, name=name)
    accepted = None if raw is None else _accepted(found, loaded.card, raw, f"{folder}/{name}")
    if accepted is not None:
        _code(found, loaded, service, accepted, folder)


def _accepted(found: Checked, card: Problem, raw: pd.DataFrame, where: str) -> pd.DataFrame | None:
    """The rows that a run would hand to the code; None where the contract would end it."""
    from serinus.core.verdict import stopping
    from serinus.validation.run import validate

    assert found.contract is not None  # noqa: S101 - a fault of the contract is one, and then no data is tried
    suite = found.contract.suites["raw"]
    missing = [column for column in suite.columns if column not in raw.columns]
    if missing:
        found.faults.append((where, f"lacks the columns {', '.join(missing)} of the contract"))
        return None
    verdict = validate(suite, raw, snapshot_time=card.data.snapshot_time)
    found.faults += [(where, f"the contract refuses it: {check.line()}") for check in stopping(verdict.checks)]
    return None if stopping(verdict.checks) else verdict.accepted


def _code(found: Checked, loaded: LoadedProblem, service: ServiceInfo, accepted: pd.DataFrame, folder: str) -> None:
    """The problem's own functions, one after the other as in a run, and what they hand back."""
    from serinus.features.keys import IdKinds, require_keys
    from serinus.features.recorded import checked

    card, code, framing = loaded.card, loaded.code, loaded.card.framing
    with found.of(f"{folder}/dataset.py"), telling([loaded.folder.resolve()]):
        tables = code.clean(accepted).tables
        known = {"views": [view.model_dump() for view in service.views if view.key_type]}
        kinds = IdKinds.of(known, framing.entity, framing.unit, framing.item)
        asked = checked(code.requests(tables, card), card, kinds)
        code.outcomes(tables, asked, card)
        found.faults += [(f"{folder}/problem.yaml", line) for line in _empty_splits(card, asked)]
        where = f"{folder}/{card.data.features}"
        with found.of(where):
            rows = code.views(tables)
            unfilled = list(_unfilled(service, rows))
            found.faults += [(where, line) for line in unfilled]
            for view in () if unfilled else service.views:
                keys = rows[view.name][view.join_key].unique().tolist() if view.key_type else ()
                require_keys(f"the rows of feature view {view.name}", view.join_key, view.key_type, keys)


def _empty_splits(card: Problem, asked: Any) -> Iterator[str]:  # noqa: ANN401 - Requests, which would import pandas
    positive = asked.rows["request"][asked.rows["label"] == 1]
    days = asked.requests["as_of"].iloc[positive].dt.date
    for name, window in card.data.splits.items():
        if not any(day in window for day in days.unique()):
            yield f"data.splits.{name}: no positive row lies from {window.start} to {window.end}"


def _unfilled(service: ServiceInfo, rows: Any) -> Iterator[str]:  # noqa: ANN401 - tables
    for view in service.views:
        if view.name not in rows:
            yield f"views() gave no rows for view {view.name}"
            continue
        wanted: Sequence[str] = (view.join_key, "event_timestamp", *(one.name for one in view.features))
        missing = _missing(rows[view.name], wanted)
        if missing:
            yield f"views() gave view {view.name} without {', '.join(missing)}"


def _missing(frame: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    return [name for name in wanted if name and name not in frame.columns]
