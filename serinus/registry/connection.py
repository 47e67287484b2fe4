"""Opens MLflow: quietly, without telemetry, and with its faults turned into ours.

Invariant: MLflow is imported here and in `tracker.py` alone, on first use; one that does not answer is `Unavailable`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from serinus.core.errors import Conflict, NotFound, SerinusError, Unavailable
from serinus.files import DISK
from serinus.registry.moved import follow, root_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
# Every run that a pipeline opened has it: the pipeline's job id.
JOB_TAG = "serinus.pipeline_run"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is down must fail a command in seconds, not after minutes of back-off.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@cache
def connect(uri: str) -> MlflowClient:
    """A client of a tracking server, or of a SQLite file (made when missing, artifacts in a folder beside it).

    One that was moved, with its artifacts, goes on in its new place.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    database = database_of(uri)
    if database is not None:
        DISK.folder(database.parent)
        follow(database, JOB_TAG)
    with translated(f"MLflow at {uri}"), warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy warns while its tables are mapped; nothing of ours can change that.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def artifact_root(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a SQLite file; a server decides for itself."""
    database = database_of(uri)
    return None if database is None else root_of(database)


def database_of(uri: str) -> Path | None:
    """The SQLite file of a tracking URI, which SQLAlchemy writes `sqlite:///relative` or `sqlite:////absolute`; None of
    a server.
    """
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """MLflow's exceptions as ours; `what` names the thing that was asked for."""
    try:
        yield
    except SerinusError:
        raise
    except Exception as fault:  # the edge to a third-party system; MLflow raises many kinds
        raise _ours(what, fault) from fault


def _ours(what: str, fault: Exception) -> SerinusError:
    code = getattr(fault, "error_code", "")
    first = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
    if code == "RESOURCE_DOES_NOT_EXIST":
        return NotFound(f"{what} does not exist", cause=first)
    if code == "RESOURCE_ALREADY_EXISTS":
        return Conflict(f"{what} exists already", cause=first)
    if code in ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "PERMISSION_DENIED"):
        return Conflict(f"{what}: MLflow refuses that", cause=first)
    return Unavailable(
        f"{what}: MLflow does not answer as it should", cause=first, hint="is tracking_uri right, and the server up?"
    )
