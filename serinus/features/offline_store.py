"""A Feast offline store over parquet files, with the as-of join of `point_in_time`.

Invariant: retrieval keeps every entity row, whatever its keys; Feast's own stores lose rows or expand histories (see
docs/decisions/features.md). What this store cannot do is refused, never answered in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from serinus.core.errors import DataError, UsageError
from serinus.features.point_in_time import FeatureRows, Limits, point_in_time, rows_between

EVENT = "event_timestamp"
_BEGIN, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class DuckDBOfflineStoreConfig(FeastConfigBaseModel):
    """`offline_store:` of feature_store.yaml. Relative paths of file sources start at `root`.

    `threads` 0 means all cores; beyond `memory` (for example `2GB`) DuckDB works on disk.
    """

    type: Literal["serinus.features.offline_store.DuckDBOfflineStore"] = (
        "serinus.features.offline_store.DuckDBOfflineStore"
    )
    root: str = "."
    threads: int = 0
    memory: str = "2GB"


class _Job(RetrievalJob):
    """A retrieval that runs when its result is asked for."""

    def __init__(
        self, run: Callable[[], pa.Table], full_names: bool, metadata: RetrievalMetadata | None = None
    ) -> None:
        self._run, self._full_names, self._metadata = run, full_names, metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._run().to_pandas()
        return frame

    def persist(self, storage: object, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        raise UsageError("saved data sets are not kept by this offline store", hint="write the arrow table yourself")


class DuckDBOfflineStore(OfflineStore):
    """See the module."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **_: Any,  # noqa: ANN401 - a time range, given instead of a frame
    ) -> RetrievalJob:
        """Feast's signature; `entity_df` must be a frame, and the views plain ones."""
        if not isinstance(entity_df, pd.DataFrame):
            raise UsageError(
                "historical features need a data frame of entity rows", cause=f"got {type(entity_df).__name__}"
            )
        timestamp = EVENT if EVENT in entity_df else _only_timestamp(entity_df)
        _require_plain(feature_refs, feature_views)
        views = [_rows_of(config, view, feature_refs, full_feature_names) for view in feature_views]
        keys = sorted({key for view in views for key in view.keys})
        missing = [key for key in keys if key not in entity_df]
        if missing:
            raise UsageError(f"entity rows lack the keys {', '.join(missing)}")
        entities = pa.Table.from_pandas(entity_df, preserve_index=False)
        metadata = RetrievalMetadata(feature_refs, keys, entity_df[timestamp].min(), entity_df[timestamp].max())
        limits = _limits(config)
        return _Job(lambda: point_in_time(entities, timestamp, views, limits), full_feature_names, metadata)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The latest row of each key in the interval, both ends included."""
        times = (timestamp_field, created_timestamp_column)
        view = _plain_rows(_path(config, data_source), join_key_columns, feature_name_columns, times)
        return _Job(lambda: rows_between(view, start_date, end_date, latest=True, limits=_limits(config)), False)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows of the interval, both ends included."""
        times = (timestamp_field, created_timestamp_column)
        view = _plain_rows(_path(config, data_source), join_key_columns, feature_name_columns, times)
        start, end = start_date or _BEGIN, end_date or _END
        return _Job(lambda: rows_between(view, start, end, latest=False, limits=_limits(config)), False)


def _limits(config: RepoConfig) -> Limits:
    return Limits(threads=config.offline_store.threads, memory=config.offline_store.memory)


def _only_timestamp(frame: pd.DataFrame) -> str:
    found = [str(name) for name in frame.select_dtypes(include=["datetime", "datetimetz"]).columns]
    if len(found) != 1:
        raise UsageError("entity rows need a column event_timestamp", cause=f"time columns found: {found or 'none'}")
    return found[0]


def _require_plain(refs: Sequence[str], views: Sequence[Any]) -> None:
    known = {str(view.projection.name_to_use()) for view in views}
    others = sorted({ref.split(":", 1)[0] for ref in refs} - known)
    if others:
        raise UsageError(
            f"this offline store does not compute {', '.join(others)}",
            cause="on-demand views run in Feast",
            hint="compute at request time with the problem's inputs",
        )


def _rows_of(config: RepoConfig, view: Any, refs: list[str], full_names: bool) -> FeatureRows:  # noqa: ANN401
    name = view.projection.name_to_use()
    wanted = [ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0] == name]
    mapping = {new: old for old, new in view.batch_source.field_mapping.items()}
    keys = {view.projection.join_key_map.get(column.name, column.name): column.name for column in view.entity_columns}
    return FeatureRows(
        rows=_path(config, view.batch_source),
        keys={mine: mapping.get(theirs, theirs) for mine, theirs in keys.items()},
        features={mapping.get(one, one): f"{name}__{one}" if full_names else one for one in wanted},
        timestamp=view.batch_source.timestamp_field,
        created=view.batch_source.created_timestamp_column or None,
        ttl=view.ttl or timedelta(0),
    )


def _plain_rows(path: Path, keys: list[str], features: list[str], times: tuple[str, str | None]) -> FeatureRows:
    return FeatureRows(
        rows=path,
        keys={key: key for key in keys},
        features={name: name for name in features},
        timestamp=times[0],
        created=times[1] or None,
    )


def source_path(config: RepoConfig, source: FileSource) -> Path:
    """The file of a source; what is relative starts at `root`, which starts at the folder of feature_store.yaml."""
    return Path(config.repo_path or ".") / str(config.offline_store.root) / str(source.path)


def _path(config: RepoConfig, source: DataSource) -> Path:
    if not isinstance(source, FileSource):
        raise UsageError(
            f"data source {source.name} is a {type(source).__name__}", hint="declare a FileSource of parquet"
        )
    path = source_path(config, source)
    if not path.exists():
        raise DataError(
            f"feature source {source.name} has no rows yet",
            cause=f"{path} does not exist",
            hint="build the features first: `serinus features build PROBLEM`",
        )
    return path
