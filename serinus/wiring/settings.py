"""The settings document of a predictor's process.

Invariant: it says everything; a predictor reads no project file and no environment variable.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ServeSettings(BaseModel):
    """What one predictor serves and where. `online` is a path of Feast's SQLite store, or a redis:// address.

    `covariates`: the card's, logged with every exposure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    salt: str
    version: str
    revision: str
    storage_uri: str
    online: str
    events: Path
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081
    accept_event_time: bool = False
    covariates: tuple[str, ...] = ()
