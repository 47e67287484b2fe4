"""The settings documents of the processes that serve: predictor and collector.

Invariant: a document says everything; such a process reads no project file and no environment variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serinus.core.addresses import path_of
from serinus.core.names import ServiceRef
from serinus.evidence.logs import in_folder
from serinus.features.keys import IdKinds

Port = Annotated[int, Field(ge=1, le=65_535)]
Version = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^local-[0-9a-f]{6}$")]


class ServeSettings(BaseModel):
    """What one predictor serves and where: `version` counts from 1, or is `local-<hash6>` for a bundle's folder.

    `storage_uri` is the address of a bundle, not relative to a named store.
    `online` is the path of Feast's SQLite store, or an address of Redis; which problem's features it looks up there
    says the bundle. `events` is the folder of the event log, or the redis:// address of one that a collector drains.
    `writers` is where the count of exposures outlives a kill: `writers/` of that folder, named when there is none.
    `covariates`: the card's, logged with every exposure. `inputs_share`: the card's, of the requests, whose inputs are
    logged. `unit`: the card's, whose ids name who is assigned; the entity's when left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: ServiceRef
    salt: str
    version: Version
    revision: str
    storage_uri: str
    online: str
    events: str
    writers: str = ""
    host: str = "127.0.0.1"
    http_port: Port = 8080
    grpc_port: Annotated[int, Field(ge=0, le=65_535, description="0 leaves gRPC out")] = 8081
    accept_event_time: bool = False
    covariates: tuple[str, ...] = ()
    inputs_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    unit: str = ""

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if not in_folder(self.events) and not self.writers:
            raise ValueError("writers: a folder is needed where events is not one")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.http_port == self.grpc_port:
            raise ValueError("http_port and grpc_port must differ")
        return self

    @property
    def writers_folder(self) -> Path:
        """Where the predictor's numbers are."""
        return Path(self.writers) if self.writers else path_of(self.events) / "writers"


class CollectSettings(BaseModel):
    """Where the collector of one service writes, and where it listens.

    `folder` is that of the event log; `events` the redis:// address of the one that predictors write to, when they do.
    `accept_event_time`: an outcome arrives when it happened, for replays only. `label` and `outcomes` are the names
    that the card knows, its label's and those of its KPIs; others are refused. Without any, every name is taken.
    `kinds`: the key types of units and items; text when left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: ServiceRef
    folder: str
    label: str = ""
    outcomes: tuple[str, ...] = ()
    events: str = ""
    host: str = "127.0.0.1"
    port: Port = 8090
    accept_event_time: bool = False
    kinds: IdKinds = IdKinds()
