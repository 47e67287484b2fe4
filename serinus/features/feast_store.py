"""The problem's Feast project: definitions, registry, retrieval, materialization.

Invariant: besides the offline store, this is the only module that imports Feast. An online store is built aside and put
in place whole, so a reader sees the store as of one time or as of another, never a mixture (D12).
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from serinus.core.card import Problem
from serinus.core.errors import DataError, NotFound, UsageError
from serinus.features.batch import Side
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo
from serinus.features.sides import lookup_time, to_column

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True)
class FeastProject:
    """Where a problem's Feast project is: configuration, definitions (a loaded module), and the home of its files."""

    name: str
    config: Path
    definitions: ModuleType
    home: Path


class FeastStore:
    """See the module."""

    def __init__(self, project: FeastProject) -> None:
        self._project = project
        self._config = _repo_config(project)
        self._feast = _open(self._config)

    def write_source(self, view: str, rows: pd.DataFrame) -> None:
        """Replaces the source rows of a view. Raises `NotFound` for a view that is not declared."""
        path = self._source_path(view)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        # DuckDB reads microseconds through Feast; pandas' nanoseconds would fail there.
        pq.write_table(
            pa.Table.from_pandas(rows, preserve_index=False),
            fresh,
            coerce_timestamps="us",
            allow_truncated_timestamps=True,
        )
        fresh.replace(path)

    def apply(self) -> None:
        """Makes the registry equal to the declarations; idempotent."""
        with _quiet():
            self._feast.apply(self._declared(), objects_to_delete=self._gone(), partial=False)

    def service_description(self, name: str) -> ServiceInfo:
        """The service as plain data. Raises `NotFound` when it is not registered."""
        from feast.errors import FeatureServiceNotFoundException

        try:
            service = self._feast.get_feature_service(name)
        except FeatureServiceNotFoundException as fault:
            raise NotFound(
                f"feature service {name} is not in the registry of {self._project.name}",
                hint=f"`serinus features build {self._project.name}` registers it",
            ) from fault
        views = [self._view_info(projection) for projection in service.feature_view_projections]
        return ServiceInfo(project=self._project.name, name=name, views=tuple(sorted(views, key=lambda v: v.name)))

    def historical_source(self, card: Problem) -> HistoricalFeatures:
        """Point-in-time lookups of the card's feature service."""
        service = self.service_description(card.data.feature_service)
        return HistoricalFeatures(self._retrieve, service, card.framing.entity, card.framing.item)

    def materialize(self, as_of: datetime) -> dict[str, int]:
        """The online store with the latest rows not later than the lookup time of `as_of`; rows by view.

        Built in a file of its own and renamed over the old one: in place, SQLite would let late rows overwrite newer.
        """
        target = Path(self._config.online_store.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        config = _repo_config(self._project, online=fresh)
        with _quiet():
            store = _open(config)
            views = store.list_feature_views()
            store._get_provider().update_infra(self._project.name, [], views, [], store.list_entities(), False)
            store.materialize(EPOCH, lookup_time(as_of))
            counts = _count(fresh, self._project.name, [view.name for view in views])
        fresh.replace(target)
        self._feast = _open(self._config)  # its connection still held the file that was replaced
        return counts

    @property
    def online_path(self) -> Path:
        """The SQLite file of the online store."""
        return Path(self._config.online_store.path)

    def _retrieve(self, view_refs: list[str], rows: pd.DataFrame) -> pa.Table:
        with _quiet():
            return self._feast.get_historical_features(rows, view_refs, full_feature_names=True).to_arrow()

    def _declared(self) -> list[Any]:
        from feast import Entity, FeatureService, FeatureView

        found = {
            id(v): v
            for v in vars(self._project.definitions).values()
            if isinstance(v, Entity | FeatureView | FeatureService)
        }
        if not found:
            raise UsageError(f"the definitions of {self._project.name} declare no feature view")
        return list(found.values())

    def _gone(self) -> list[Any]:
        """What the registry holds and the declarations no longer do."""
        names = {(type(one), one.name) for one in self._declared()}
        held: list[Any] = [*self._feast.list_feature_services(), *self._feast.list_feature_views()]
        return [one for one in held if (type(one), one.name) not in names]

    def _source_path(self, view: str) -> Path:
        from feast import FeatureView

        for one in self._declared():
            if isinstance(one, FeatureView) and one.name == view:
                source: Any = one.batch_source
                return Path(str(self._config.offline_store.root)) / str(source.path)
        raise NotFound(f"view {view} is not declared", hint=f"declare it in feature_repo/{self._project.name}.py")

    def _view_info(self, projection: Any) -> ViewInfo:  # noqa: ANN401 - feast has no types
        view = self._feast.get_feature_view(projection.name)
        entity = self._feast.get_entity(view.entities[0])
        return ViewInfo(
            name=view.name,
            entity=entity.name,
            join_key=entity.join_key,
            key_type=view.entity_columns[0].dtype.to_value_type().name,
            ttl_seconds=view.ttl.total_seconds() if view.ttl else 0.0,
            features=tuple(FeatureInfo(name=one.name, type=str(one.dtype)) for one in projection.features),
        )


class HistoricalFeatures:
    """`HistoricalSource` of a feature service: one retrieval a side."""

    def __init__(
        self,
        retrieve: Callable[[list[str], pd.DataFrame], pa.Table],
        service: ServiceInfo,
        entity: str,
        item: str | None,
    ) -> None:
        self._retrieve, self._service, self._entity, self._item = retrieve, service, entity, item

    def entity_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """See `HistoricalSource`."""
        return self._side(self._entity, ids, days)

    def item_side(self, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        """See `HistoricalSource`."""
        if self._item is None:
            raise DataError("this problem has no items")
        return self._side(self._item, ids, days)

    def _side(self, entity: str, ids: NDArray[np.object_], days: NDArray[np.datetime64]) -> Side:
        views = self._service.of_entity(entity)
        if not views:
            raise UsageError(f"feature service {self._service.name} has no view of entity {entity}")
        key = views[0].join_key
        stamps = pd.DatetimeIndex(days.astype("datetime64[us]")).tz_localize("UTC")
        rows = pd.DataFrame({key: _typed(ids, views[0].key_type), _TIMESTAMP: stamps})
        refs = [f"{view.name}:{one.name}" for view in views for one in view.features]
        table = self._retrieve(refs, rows)
        if len(table) != len(rows):
            raise DataError(
                f"feature retrieval gave {len(table)} rows for {len(rows)}", hint="use Serinus' offline store"
            )
        columns = {ref: to_column(table[ref.replace(":", "__")]) for ref in refs}
        return Side(np.asarray([str(one) for one in ids], dtype=object), columns)


def _typed(ids: NDArray[np.object_], key_type: str) -> pd.Series[Any]:
    """Keys in the type of the view; text for strings, integers otherwise."""
    series: pd.Series[Any] = pd.Series(ids)
    return series.astype(str) if key_type == "STRING" else series.astype("int64")


def _repo_config(project: FeastProject, online: Path | None = None) -> RepoConfig:
    """feature_store.yaml with its variables filled in. An unset one is a fault: Feast would make a folder of it."""
    _without_runtime_type_checks()
    from feast import RepoConfig

    values = {"SERINUS_HOME": str(project.home), "SERINUS_PROBLEM": project.name}
    try:
        text = Template(project.config.read_text(encoding="utf-8")).substitute(values)
        document = yaml.safe_load(text)
    except (OSError, KeyError, ValueError, yaml.YAMLError) as fault:
        raise UsageError(
            f"{project.config} cannot be read",
            cause=f"{type(fault).__name__}: {fault}",
            hint="its variables are SERINUS_HOME and SERINUS_PROBLEM",
        ) from fault
    if online is not None:
        document["online_store"]["path"] = str(online)
    Path(document["registry"]).parent.mkdir(parents=True, exist_ok=True)
    return RepoConfig(**document, repo_path=project.config.parent)


def _open(config: RepoConfig) -> FeatureStore:
    from feast import FeatureStore

    with _quiet():
        return FeatureStore(config=config)


def _without_runtime_type_checks() -> None:
    """Feast decorates its classes with typeguard, which rewrites their source at import: most of the 4 s it takes.

    The decorator checks argument types of Feast's own calls and nothing else; made a no-op before the first import,
    Feast loads in a third of the time (docs/decisions/features.md has the figures). Later users of typeguard get the
    real decorator back.
    """
    if "feast" in sys.modules:
        return
    import typeguard

    real = typeguard.typechecked
    typeguard.typechecked = _unchanged
    try:
        import feast  # noqa: F401 - imported for its effect
    finally:
        typeguard.typechecked = real


def _unchanged(target: Any = None, **_: object) -> Any:  # noqa: ANN401 - stands in for a decorator
    return (lambda one: one) if target is None else target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints progress and warns of its own dependencies; neither says anything of our data."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _count(path: Path, project: str, views: list[str]) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {
            view: int(db.execute(f'SELECT count(DISTINCT entity_key) FROM "{project}_{view}"').fetchone()[0])  # noqa: S608
            for view in sorted(views)
        }


def views_by_name(service: ServiceInfo) -> Mapping[str, ViewInfo]:
    """The service's views by name."""
    return {view.name: view for view in service.views}
