"""Finds the project and its profile, and loads problems by path.

Invariant: nothing outside the project folder, its profile and a few environment variables decides where things are.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serinus.core.addresses import scheme_of
from serinus.core.bundles import STORE_NAME
from serinus.core.card import Problem, parse_card
from serinus.core.card.problem import explain
from serinus.core.errors import CardError, NotFound, UsageError
from serinus.core.names import ServiceRef, feast_project
from serinus.features.dataset import LoadedProblemCode, ProblemCode
from serinus.model.stores import HOME, BundleStores
from serinus.wiring.home_layout import require_current
from serinus.wiring.problem_code import MARKER, problem_fault

_OVERRIDDEN = ("kfp_endpoint", "tracking_uri", "online", "events", "service", "salt", "bundle_store")
StoreName = Annotated[str, Field(pattern=rf"^{STORE_NAME}$")]


class Profile(BaseModel):
    """Addresses of one environment. `home` is absolute once loaded; the others default to places below it.

    `online`: the online store, a path or an address of Redis; that of Feast's configuration when empty. `events`:
    the Redis to which predictors log, for a collector to drain; files of the home when empty. `salt`: that of
    `service`, as a release of the chart has one, else of the usual service of each problem; drawn when empty.
    `bundle_store`: the name of the bundle store that is written to; `bundle_stores`: addresses by name, of those beside
    `home`, which is a folder of the home unless it is named here, too.
    `kfp_ui` is where people look at runs: another address than the API's, so without it no link is shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    tracking_uri: str = ""
    kfp_endpoint: str = ""
    kfp_namespace: str = ""
    online: str = ""
    events: str = ""
    service: ServiceRef | None = None
    salt: str = ""
    kfp_ui: str = ""
    bundle_store: str = HOME
    bundle_stores: dict[StoreName, str] = Field(default_factory=dict)

    def stores(self) -> BundleStores:
        """Raises `UsageError` when one has an address of no known kind, or the one to be written to is none of them."""
        return BundleStores({HOME: str(self.home / "bundles")} | self.bundle_stores, self.bundle_store)

    @property
    def mlflow(self) -> str:
        """Tracking URI of MLflow."""
        return self.tracking_uri or f"sqlite:///{self.home}/mlflow/mlflow.db"


class _Layout(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    problems: str = "problems"
    feature_repo: str = "feature_repo"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    project: _Layout = _Layout()
    profiles: dict[str, dict[str, Any]] = Field(default_factory=lambda: {"embedded": {"home": ".serinus"}})


@dataclass(frozen=True)
class LoadedProblem:
    """A problem folder: the typed card, where its files are, and its code."""

    card: Problem
    folder: Path

    @property
    def source(self) -> Path:
        """The raw log."""
        return self.folder / self.card.data.source

    @cached_property
    def code(self) -> ProblemCode:
        """dataset.py and the features module, loaded by path."""
        return LoadedProblemCode(
            load_module(self.folder / "dataset.py"), load_module(self.folder / self.card.data.features)
        )

    def contract(self) -> object:
        """The parsed contract document."""
        return read_yaml(self.folder / self.card.data.contract)


@dataclass(frozen=True)
class Project:
    """A folder with serinus.toml, seen through one profile."""

    root: Path
    layout: _Layout
    profile: Profile

    @cached_property
    def home(self) -> Path:
        """Where runs write. Raises `Conflict` for a home of an earlier release, which `serinus home convert` opens."""
        return require_current(self.profile.home)

    @property
    def feature_repo(self) -> Path:
        """Folder of the Feast declarations."""
        return self.root / self.layout.feature_repo

    def declarations(self, problem: str) -> Path:
        """The module that declares a problem's features, existing or not."""
        return self.feature_repo / f"{feast_project(problem)}.py"

    def problem_names(self) -> list[str]:
        """Problems of this project, sorted."""
        return sorted(path.parent.name for path in (self.root / self.layout.problems).glob("*/problem.yaml"))

    def problem_folder(self, name: str) -> Path:
        """Where a problem's files are, existing or not."""
        return self.root / self.layout.problems / name

    def problem(self, name: str) -> LoadedProblem:
        """Raises `NotFound` for an unknown name, `CardError` for a card with faults."""
        folder = self.problem_folder(name)
        path = folder / "problem.yaml"
        if not path.is_file():
            raise NotFound(
                f"no problem {name} in {self.root / self.layout.problems}",
                hint=f"known: {', '.join(self.problem_names())}; `serinus problem new {name}` writes a skeleton",
            )
        card = parse_card(read_yaml(path), where=f"{self.layout.problems}/{name}/problem.yaml")
        if card.name != name:
            raise CardError(f"the card in folder {name} calls itself {card.name}", hint="make both names equal")
        return LoadedProblem(card, folder)


def open_project(environ: Mapping[str, str] | None = None, start: Path | None = None) -> Project:
    """The project of SERINUS_PROJECT, else of the nearest folder upwards with a serinus.toml.

    Paths of the file are relative to it; a relative SERINUS_HOME is, as any path that is typed, to where one stands.
    """
    env, here = os.environ if environ is None else environ, start or Path.cwd()
    root = _root(env, here)
    try:
        document = _Document.model_validate(tomllib.loads((root / MARKER).read_text(encoding="utf-8")))
        profile = Profile.model_validate(_profile(document, env))
    except tomllib.TOMLDecodeError as fault:
        raise UsageError(f"{root / MARKER} is not valid TOML", cause=str(fault)) from fault
    except ValidationError as fault:
        raise UsageError(f"{root / MARKER} has faults", cause="\n".join(explain(fault))) from fault
    typed = env.get("SERINUS_HOME")
    home = _home(here / typed if typed else root / profile.home)
    stores = _absolute(profile.bundle_stores, root) | _absolute(_typed_stores(env), here)
    profile = profile.model_copy(update={"home": home, "bundle_stores": stores})
    profile.stores()  # a fault in them is told now, not after hours of training
    return Project(root, document.project, profile)


def _home(path: Path) -> Path:
    home = path.resolve()
    if "?" in str(home):
        cause = "in the address of MLflow's database a question mark ends the path: runs would be kept elsewhere"
        raise UsageError(f"{home} can be no home", cause=cause, hint="give SERINUS_HOME a folder without one")
    return home


def _root(env: Mapping[str, str], start: Path) -> Path:
    named = env.get("SERINUS_PROJECT")
    candidates = [Path(named)] if named else [start, *start.parents]
    for folder in candidates:
        if (folder / MARKER).is_file():
            return folder.resolve()
    where = f"SERINUS_PROJECT={named}" if named else f"{start} and the folders above it"
    raise UsageError(f"no {MARKER} in {where}", hint="run inside a project, or set SERINUS_PROJECT to its folder")


def _profile(document: _Document, env: Mapping[str, str]) -> dict[str, Any]:
    name = env.get("SERINUS_PROFILE", "embedded")
    if name not in document.profiles:
        raise UsageError(f"no profile {name} in {MARKER}", hint=f"known: {', '.join(document.profiles)}")
    overrides = {key: env.get(f"SERINUS_{key.upper()}") for key in _OVERRIDDEN}
    return document.profiles[name] | {key: value for key, value in overrides.items() if value}


def _typed_stores(env: Mapping[str, str]) -> dict[str, str]:
    """Of SERINUS_BUNDLE_STORES: `name=address`, several with commas between them."""
    found = {}
    for one in filter(None, env.get("SERINUS_BUNDLE_STORES", "").split(",")):
        name, _, address = one.partition("=")
        if not re.fullmatch(STORE_NAME, name) or not address:
            raise UsageError(f"SERINUS_BUNDLE_STORES: {one} is not name=address")
        found[name] = address
    return found


def _absolute(stores: Mapping[str, str], base: Path) -> dict[str, str]:
    return {name: one if scheme_of(one) else str((base / one).resolve()) for name, one in stores.items()}


def read_yaml(path: Path) -> object:
    """A parsed YAML document. Raises `CardError` with line and column when it cannot be parsed."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CardError(f"cannot read {path}", cause=str(fault)) from fault
    except yaml.YAMLError as fault:
        raise CardError(f"{path} is not valid YAML", cause=str(fault)) from fault


def load_module(path: Path) -> ModuleType:
    """A Python file as a module of its own name; the same path gives the same module in one process.

    Raises `ProblemCodeError` with file and line when it cannot be run.
    """
    name = f"serinus_problem_{path.parent.name}_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NotFound(f"no module at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        del sys.modules[name]  # half of a module is none
        raise problem_fault(fault, [path.parent.resolve()]) or fault from fault
    return module
