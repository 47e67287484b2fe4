"""The ports: what the rooms need of the outside, as Protocols. Adapters implement them; `serinus.wiring` chooses.

Invariant: no type of a third-party system crosses a port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from serinus.core.events import Event, Stream
from serinus.core.names import ModelRef, ServiceRef


class BundleStore(Protocol):
    """Immutable bundles by content, in named stores; URIs are relative to these (`serinus.core.bundles`)."""

    def put(self, model: str, folder: Path) -> str:
        """Stores the bundle in `folder`; returns its URI, which says the same on every machine that has the store."""

    def get(self, uri: str) -> Path:
        """A local folder with the bundle: of its store, else of another one that has the same content.

        Raises `NotFound`, `BundleError` when the content has changed, `UsageError` for a store that is not known here.
        """

    def address(self, uri: str) -> str:
        """Where the bundle of a URI is here, for a process that knows no stores. Raises `UsageError` as `get` does."""

    def named(self, uri: str) -> str:
        """The URI relative to its store of one that names a place, as release 0.1 wrote them.

        What no store has stays as it is.
        """


@dataclass(frozen=True)
class ModelVersion:
    """A registered version: an immutable number with tags and, at most one each, the aliases of D16."""

    model: str
    version: int
    run_id: str
    storage_uri: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def warnings(self) -> str:
        """The checks of severity warning that did not hold for it, as a person reads them; empty when all did."""
        rows = int(self.tags.get("serinus.data_warnings") or 0)
        data = f"{rows} of the data contract" if rows else ""
        named = self.tags.get("serinus.failed_warnings", "")
        count = int(self.tags.get("serinus.gate_warnings") or 0)
        gates = named or (f"{count} gates" if count else "")  # registered before their names were kept
        return ", ".join(part for part in (gates, data) if part)


@dataclass(frozen=True)
class Dataset:
    """Lineage of one data set that a run read: a name, where it came from, and a hash of its whole content."""

    name: str
    source: str
    content_hash: str
    context: str
    rows: int


class RunTracker(Protocol):
    """Runs: parameters, metrics and files of one pipeline run."""

    def open_run(self, problem: str, pipeline_run: str, tags: Mapping[str, str]) -> str:
        """Opens the run tagged with the pipeline's job id, or finds the one it already has; returns its id."""

    def find_run(self, problem: str, pipeline_run: str) -> str | None:
        """The run that carries the pipeline's job id, or None."""

    def log(self, run_id: str, *, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Adds parameters and metrics."""

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Adds inputs with their content hashes."""

    def log_files(self, run_id: str, folder: Path, at: str) -> None:
        """Adds a file, or the files of a folder, under the run's artifact path `at`."""

    def close_run(self, run_id: str, *, failed: str | None) -> None:
        """Ends the run; `failed` is the headline of the failure."""

    def abandon(self, problem: str, pipeline_run: str, *, reason: str) -> bool:
        """Ends as killed a run that is still open, which its pipeline can do no more; whether there was one."""


class Registry(Protocol):
    """Versions and aliases of models. Every change of aliases can be killed at any point and is finished later."""

    def register(self, model: str, *, run_id: str, storage_uri: str, tags: Mapping[str, str]) -> ModelVersion:
        """Adds the next version, or returns the one that already has this run and storage URI."""

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions, newest first; empty for an unknown model."""

    def version(self, model: str, which: str) -> ModelVersion:
        """By number or alias. Raises `NotFound`."""

    def aliased(self, model: str, alias: str) -> ModelVersion | None:
        """The version that an alias points at, or None."""

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""

    def challenge(self, model: str, version: int) -> None:
        """Points `challenger` at a version."""

    def manage(self, model: str, owner: str) -> str:
        """Claims the aliases of a model unless another has them; says who has them. Nobody else moves them (D16)."""

    def hand_over(self, model: str, owner: str, to: str) -> None:
        """Gives the aliases that `owner` has to another one; those that it has not stay whose they are."""

    def promote(
        self, model: str, version: int, *, reason: str, by_hand: bool = False, way_back: int | None = None
    ) -> None:
        """Makes a version `champion`, and `way_back` or else the old champion `previous`; a no-op when it already is.

        A champion that was deleted leaves no way back but the one there was: `previous` is never the champion itself.

        By hand it raises `Conflict` while a service manages the model.
        """


@dataclass(frozen=True)
class Service:
    """A service of a problem: the version wanted in it, where its bundle is, and the salt of its buckets (D2).

    `template` is how it is to be served where that is not the usual way; `retry` how often a refused revision was to be
    tried again. `first_version` and `first_uri` were wanted when the service was made.
    """

    ref: ServiceRef
    problem: str
    version: int
    storage_uri: str
    salt: str
    template: str = ""
    retry: int = 0
    first_version: int = 0
    first_uri: str = ""

    @property
    def model(self) -> ModelRef:
        """The version that is wanted; a model is called as its problem."""
        return ModelRef(self.problem, self.version)

    @property
    def first_model(self) -> ModelRef:
        """The version that came first."""
        return ModelRef(self.problem, self.first_version)


class Deployer(Protocol):
    """Says which version of a problem's model is wanted in which service (D18)."""

    def want(self, service: ServiceRef, model: ModelRef, storage_uri: str, template: str = "") -> None:
        """Writes the wanted version; idempotent. The service's salt is drawn with its first version and stays.

        Raises `Conflict` when the service is another problem's.
        """

    def retry(self, service: ServiceRef) -> int:
        """Asks for another try of what was refused; the number of that try. Raises `NotFound` without a service."""

    def service(self, service: ServiceRef) -> Service | None:
        """The service as it is wanted now, or None when no version ever was."""

    def known(self) -> list[ServiceRef]:
        """All services that were ever made here, in order."""


class EventSink(Protocol):
    """Where predictors and the collector write (D10)."""

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        """Returns when the rows are on disk, all of them. Raises `Unavailable` when that failed: none counts then.

        Rows of one call become visible together. Writing a row again is harmless: readers fold rows by id.
        """
