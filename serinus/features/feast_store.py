"""The problem's Feast project: definitions, registry, retrieval, materialization.

Invariant: besides the offline store, this is the only module that imports Feast. Nothing but `materialize` writes an
online store: it is built aside and put in place whole, so a reader sees the store as of one time or as of another,
never a mixture (D12).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from serinus.core.card import Problem
from serinus.core.errors import DataError, NotFound, UsageError
from serinus.core.names import feast_project
from serinus.features.clock import lookup_time
from serinus.features.historical import HistoricalFeatures
from serinus.features.keys import KEY_TYPES, TEXT, key_of, require_keys
from serinus.features.service import FeatureInfo, ServiceInfo, ViewInfo
from serinus.features.snapshots import Earlier, counts
from serinus.features.stores import SQLITE_ONLY
from serinus.files import DISK

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, RepoConfig

_PROMETHEUS_FILES = "PROMETHEUS_MULTIPROCESS_DIR"
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_SCALARS = ("Bool", "Float32", "Float64", "Int32", "Int64", "String", "UnixTimestamp")
_TYPES = frozenset([*_SCALARS, *(f"Array({one})" for one in _SCALARS)])
# Rows turned into Feast's protos at a time when nothing else is said: without a bound, it is a whole view.
_WRITE_BATCH = 1000
_SERIALIZATION = 3


def _load_feast() -> None:
    """Imports Feast without typeguard, which rewrites the source of its classes: most of the 3.4 s it takes.

    The decorator checks argument types of Feast's own calls and nothing else; made a no-op for the first import, Feast
    loads in a third of the time (docs/decisions/features.md has the figures). Later users of typeguard get the real
    decorator. Feast's declarations import Feast as well, so this runs when this module is imported: before them.
    """
    if "feast" in sys.modules:
        return
    # Feast sets a variable that switches Prometheus' client, when imported later, to files that all registries share.
    import prometheus_client  # noqa: F401
    import typeguard

    before = os.environ.get(_PROMETHEUS_FILES)
    real = typeguard.typechecked
    typeguard.typechecked = _unchanged
    try:
        import feast  # noqa: F401 - imported for its effect
    finally:
        typeguard.typechecked = real
        if before is None:
            os.environ.pop(_PROMETHEUS_FILES, None)


def _unchanged(target: Any = None, **_: object) -> Any:  # noqa: ANN401 - stands in for a decorator
    return (lambda one: one) if target is None else target


def _keep_utc() -> None:
    """Replaces the global adapters of sqlite3 by which Feast stores event times.

    Feast's own read a time without a zone as local time: a store made in New York would be five hours off in a pod. In
    UTC ours write and read the same numbers.
    """
    import feast.infra.online_stores.sqlite  # noqa: F401 - its import sets them

    sqlite3.register_adapter(datetime, lambda moment: int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()))
    sqlite3.register_converter("timestamp", lambda raw: datetime.fromtimestamp(int(raw), UTC).replace(tzinfo=None))


_load_feast()
_keep_utc()


@dataclass(frozen=True)
class FeastProject:
    """Where a problem's Feast project is: configuration, definitions (a loaded module), and the home of its files."""

    name: str
    config: Path
    definitions: ModuleType
    home: Path

    @property
    def project(self) -> str:
        """The name that Feast knows it by."""
        return feast_project(self.name)


class FeastStore:
    """See the module."""

    def __init__(self, project: FeastProject) -> None:
        self._project = project
        self._document = _read(project)
        self._config = _repo_config(project, self._document)
        self._feast = _open(self._config)

    def write_source(self, view: str, rows: pd.DataFrame) -> None:
        """Replaces the source rows of a view.

        Raises `NotFound` for a view that is not declared, `DataError` for rows without its columns, or with keys out of
        their written form: nobody could ask for them.
        """
        from serinus.features.offline_store import source_path

        declared = self._view(view)
        source: Any = declared.batch_source
        columns = [*declared.join_keys, *(one.name for one in declared.features), source.timestamp_field]
        renamed = {new: old for old, new in source.field_mapping.items()}
        missing = sorted({renamed.get(column, column) for column in columns} - set(rows.columns))
        if missing:
            raise DataError(f"the rows of feature view {view} lack the columns {', '.join(missing)}")
        kinds = self._key_types(declared)
        rows = _keyed(view, rows, {renamed.get(key, key): kind for key, kind in kinds.items()})
        path = source_path(self._config, source)
        # DuckDB reads microseconds through Feast; pandas' nanoseconds would fail in Feast's own store.
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with DISK.replacing(path) as fresh:
            pq.write_table(table, fresh, coerce_timestamps="us", allow_truncated_timestamps=True)

    def apply(self) -> None:
        """Makes the registry equal to the declarations; idempotent. The online store is left alone."""
        with _quiet():
            store = _open(_repo_config(self._project, self._document | {"online_store": None}))
            store.apply(self._declared(), objects_to_delete=self._gone(store), partial=False)
        self._feast.refresh_registry()  # type: ignore[no-untyped-call]

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
        return ServiceInfo(project=self._project.project, name=name, views=tuple(sorted(views, key=lambda v: v.name)))

    def historical_source(self, card: Problem) -> HistoricalFeatures:
        """Point-in-time lookups of the card's feature service."""
        service = self.service_description(card.data.feature_service)
        return HistoricalFeatures(self._retrieve, service, card.framing.entity, card.framing.item)

    def materialize(self, as_of: datetime) -> dict[str, int]:
        """The online store with the latest rows not later than the lookup time of `as_of`; rows by view.

        Built in a file of its own and renamed over the old one: in place, SQLite would let late rows overwrite newer,
        and keep rows of the future after a step back. Of two that run at once, the one that ends last stays.
        """
        target = self.online_path
        DISK.folder(target.parent)
        with tempfile.TemporaryDirectory(prefix=".materialize-", dir=target.parent) as scratch:
            fresh = Path(scratch) / target.name
            self.write_snapshot(as_of, fresh)
            found = counts(fresh, self._project.project)
            DISK.place(fresh, target)
        self._feast = _open(self._config)  # its connection still held the file that was replaced
        return found

    def write_snapshot(self, as_of: datetime, path: Path, earlier: Earlier | None = None) -> None:
        """The same rows in a file of their own, which must not exist yet.

        On top of an earlier snapshot of the same sources, Feast writes only what came since: the newest row of a key is
        the same either way, and a day costs a quarter (docs/decisions/features.md has the figures).
        """
        if earlier is not None:
            shutil.copyfile(earlier.path, path)
        aside = self._document["online_store"] | {"path": str(path)}
        with _quiet():
            store = _open(_repo_config(self._project, self._document | {"online_store": aside}))
            store.apply(self._declared())  # makes the tables
            store.materialize(earlier.as_of if earlier else _BEGIN, lookup_time(as_of))

    @property
    def online_path(self) -> Path:
        """The SQLite file of the online store."""
        return self._project.config.parent / str(self._config.online_store.path)

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

    def _gone(self, store: FeatureStore) -> list[Any]:
        """What the registry holds and the declarations no longer do."""
        declared = self._declared()
        sources = [one.batch_source for one in declared if hasattr(one, "batch_source")]
        names = {(type(one), one.name) for one in [*declared, *sources]}
        held: list[Any] = [*store.list_feature_services(), *store.list_feature_views()]
        held += [*store.list_entities(), *store.list_data_sources()]
        return [one for one in held if (type(one), one.name) not in names]

    def _view(self, name: str) -> FeatureView:
        from feast import FeatureView

        for one in self._declared():
            if isinstance(one, FeatureView) and one.name == name:
                return one
        raise NotFound(f"view {name} is not declared", hint=f"declare it in feature_repo/{self._project.project}.py")

    def _key_types(self, view: FeatureView) -> dict[str, str]:
        """By join key, as its entity declares it: a view's own columns are complete only once it was applied."""
        from feast import Entity

        entities = [one for one in self._declared() if isinstance(one, Entity) and one.name in view.entities]
        return {one.join_key: str(one.value_type.name) for one in entities}

    def _view_info(self, projection: Any) -> ViewInfo:  # noqa: ANN401 - feast has no types
        view = self._feast.get_feature_view(projection.name)
        key = view.entity_columns[0].dtype.to_value_type().name if view.entity_columns else ""
        features = tuple(FeatureInfo(name=one.name, type=str(one.dtype)) for one in projection.features)
        faults = [f"feature {one.name} is of type {one.type}" for one in features if one.type not in _TYPES]
        faults += [] if len(view.entities) == 1 else ["it does not have exactly one entity"]
        faults += [] if key in KEY_TYPES else [f"its key is of type {key or 'unknown'}"]
        faults += ["its join key is mapped"] if projection.join_key_map else []
        if faults:
            raise UsageError(f"feature view {view.name} cannot be looked up online", cause="; ".join(faults))
        entity = self._feast.get_entity(view.entities[0])
        ttl = view.ttl.total_seconds() if view.ttl else 0.0
        return ViewInfo(
            name=view.name,
            entity=entity.name,
            join_key=entity.join_key,
            key_type=key,
            ttl_seconds=ttl,
            features=features,
        )


def check_config(project: FeastProject) -> None:
    """Reads the configuration as a store would. Raises `UsageError` when it cannot be used."""
    _repo_config(project, _read(project))


def _keyed(view: str, rows: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """The rows with whole-number keys as integers and others as text."""
    for name, kind in kinds.items():
        if kind not in KEY_TYPES:
            continue  # told with the view's other faults, when the service is described
        distinct = rows[name].unique().tolist()
        require_keys(f"the rows of feature view {view}", name, kind, distinct)
        known = {one: key_of(kind, one) for one in distinct}
        rows = rows.assign(**{name: rows[name].map(known).astype(object if kind == TEXT else "int64")})
    return rows


def _read(project: FeastProject) -> dict[str, Any]:
    """feature_store.yaml with its variables filled in, and with what it does not have to say."""
    values = {"SERINUS_HOME": str(project.home), "SERINUS_PROBLEM": project.name}
    try:
        document: dict[str, Any] = _filled(yaml.safe_load(project.config.read_text(encoding="utf-8")), values)
        if isinstance(document["registry"], str):
            DISK.folder(Path(document["registry"]).parent)
        if document["entity_key_serialization_version"] != _SERIALIZATION:
            raise ValueError(f"entity_key_serialization_version must be {_SERIALIZATION}")
        # Only our store's choice of the latest row breaks ties as retrieval does; Feast's own sort is not stable.
        materialization = {"online_write_batch_size": _WRITE_BATCH} | document.get("materialization", {})
        document |= {"project": project.project}  # a problem is one Feast project, whatever the file calls it
        return document | {"materialization": materialization | {"pull_latest_features": True}}
    except (OSError, KeyError, ValueError, TypeError, yaml.YAMLError) as fault:
        raise _unreadable(project, fault) from fault


def _filled(node: Any, values: dict[str, str]) -> Any:  # noqa: ANN401 - any YAML
    """Variables replaced in every text. An unset one is a fault: Feast would make a folder of that name."""
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    return Template(node).substitute(values) if isinstance(node, str) else node


def _repo_config(project: FeastProject, document: dict[str, Any]) -> RepoConfig:
    """Feast's configuration. Its online layout must be one that `serinus.features.online` reads."""
    from feast import RepoConfig
    from feast.errors import FeastError

    try:
        config = RepoConfig(**document, repo_path=project.config.parent)
        versioned = config.registry.enable_online_feature_view_versioning  # reads the registry's part as well
    except (ValueError, TypeError, AttributeError, FeastError) as fault:
        raise _unreadable(project, fault) from fault
    kind = "sqlite" if config.online_store is None else config.online_store.type
    if versioned or kind != "sqlite":
        raise UsageError(
            f"{project.config} asks for an online store that cannot be read",
            cause="its type must be sqlite, and versioned views off",
            hint=SQLITE_ONLY,
        )
    return config


def _unreadable(project: FeastProject, fault: Exception) -> UsageError:
    hint = "its variables are SERINUS_HOME and SERINUS_PROBLEM"
    return UsageError(f"{project.config} cannot be read", cause=f"{type(fault).__name__}: {fault}", hint=hint)


def _open(config: RepoConfig) -> FeatureStore:
    from feast import FeatureStore

    with _quiet():
        return FeatureStore(config=config)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints each view that it materializes, and draws progress bars on stderr; the caller has its own."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
