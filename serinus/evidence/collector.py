"""The collector: outcomes come in over HTTP, in batches, as often as callers like to send them.

Invariant: 200 means on disk; every refusal names its field or its reason; no answer holds a traceback.
"""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from socket import socket
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serinus.core.errors import Unavailable
from serinus.evidence.drain import Drain
from serinus.evidence.intake import EVERY_NAME, Accepted, Batch, Intake, OutcomeNames, Overloaded
from serinus.evidence.log import EventLog
from serinus.features.keys import IdKinds

MOST_BYTES = 2 << 20
MOST_FAULTS = 50
RETRY_AFTER = "1"
_log = logging.getLogger("serinus.collector")


@dataclass(frozen=True)
class CollectorSettings:
    """`names`: the card's. `accept_event_time`: an outcome arrives when it happened, as in a replay, and not now.

    `kinds`: the key types of units and items.
    """

    names: OutcomeNames = EVERY_NAME
    accept_event_time: bool = False
    kinds: IdKinds = field(default_factory=IdKinds)
    most_waiting: int = 50_000
    now: Callable[[], float] = time.time


class _DrainMetrics(Collector):
    """Read from the drain when asked."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    def collect(self) -> Iterator[Metric]:
        """See the class."""
        rows = CounterMetricFamily("serinus_drained_rows", "rows moved to this log", labels=["stream"])
        waiting = GaugeMetricFamily("serinus_drain_waiting", "entries not yet moved", labels=["stream"])
        for stream, moved in self._drain.moved.items():
            rows.add_metric([stream.value], moved)
            waiting.add_metric([stream.value], self._drain.waiting[stream])
        yield from (rows, waiting)
        yield GaugeMetricFamily("serinus_drain_up", "0 while rows cannot be moved", value=float(not self._drain.fault))


class _Metrics:
    def __init__(self, log: EventLog, intake: Intake, drain: Drain | None = None) -> None:
        self.registry = CollectorRegistry()
        self.rows = Counter("serinus_outcomes", "rows by what became of them", ["result"], registry=self.registry)
        self.batches = Counter("serinus_outcome_batches", "answers by status", ["status"], registry=self.registry)
        self.seconds = Histogram("serinus_outcome_seconds", "time to answer a batch", registry=self.registry)
        waiting = Gauge("serinus_outcomes_waiting", "rows not yet on disk", registry=self.registry)
        waiting.set_function(lambda: intake.waiting)
        torn = Gauge("serinus_log_torn_files", "files of the log that were set aside", registry=self.registry)
        torn.set_function(lambda: log.damage().torn_files)
        if drain is not None:
            self.registry.register(_DrainMetrics(drain))


class _Refused(Exception):
    def __init__(self, status: int, headline: str, faults: Mapping[str, str]) -> None:
        super().__init__(headline)
        self.status = status
        self.fields = [{"field": path, "problem": problem} for path, problem in list(faults.items())[:MOST_FAULTS]]


def make_app(log: EventLog, settings: CollectorSettings | None = None, drain: Drain | None = None) -> FastAPI:
    """`POST /v1/outcomes`, `GET /healthz`, `/readyz`, `/metrics`, `/openapi.json`; `drain` runs while the app does."""
    chosen = settings or CollectorSettings()
    intake = Intake(log, most_waiting=chosen.most_waiting)
    metrics = _Metrics(log, intake, drain)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if drain is not None:
            drain.start()
        yield
        await intake.drain()
        if drain is not None:
            await asyncio.to_thread(drain.stop)

    app = FastAPI(
        title="Serinus collector",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )

    async def outcomes(request: Request) -> Response:
        """Rows are new or were seen before; either way they are on disk when this answers 200."""
        began = time.perf_counter()
        response = await _answer(request, intake, chosen, metrics)
        metrics.seconds.observe(time.perf_counter() - began)
        metrics.batches.labels(str(response.status_code)).inc()
        return response

    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    async def ready() -> Response:
        # Rows that cannot be moved wait where they are: no reason to turn away outcomes, which would be lost.
        told = {"drain": drain.fault or "up"} if drain is not None else {}
        if not intake.healthy:
            return JSONResponse({"status": "the log refused the last rows"} | told, 503)
        return JSONResponse({"status": "ready"} | told)

    async def shown() -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    app.add_api_route("/v1/outcomes", outcomes, methods=["POST"], openapi_extra=_schema())
    app.add_api_route("/healthz", alive, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"], responses={503: {"description": "the log refuses rows"}})
    app.add_api_route("/metrics", shown, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(HTTPException, _http_fault)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unknown_fault)
    return app


async def _answer(request: Request, intake: Intake, settings: CollectorSettings, metrics: _Metrics) -> Response:
    try:
        batch = _parsed(await _body(request), settings)
        now = settings.now()
        rows = [one.row(one.moment() if settings.accept_event_time else now) for one in batch.outcomes]
        accepted = await intake.take(rows)
    except _Refused as refused:
        metrics.rows.labels("refused").inc()
        return JSONResponse({"error": str(refused), "fields": refused.fields}, refused.status)
    except ValidationError as fault:
        metrics.rows.labels("refused").inc()
        return JSONResponse({"error": "the outcomes are not valid", "fields": _faults(fault)}, 400)
    except Unavailable as fault:
        metrics.rows.labels("overloaded" if isinstance(fault, Overloaded) else "unwritten").inc()
        body = {"error": fault.headline, "hint": fault.hint}
        return JSONResponse(body, 503, headers={"retry-after": RETRY_AFTER})
    metrics.rows.labels("accepted").inc(accepted.accepted)
    metrics.rows.labels("duplicate").inc(accepted.duplicates)
    return JSONResponse(accepted.model_dump())


def _parsed(body: bytes, settings: CollectorSettings) -> Batch:
    try:
        batch = Batch.model_validate_json(body)
    except RecursionError as fault:
        raise _Refused(400, "the body is nested too deeply", {"body": "too deep"}) from fault
    kinds = replace(settings.kinds, passes=settings.accept_event_time)
    faults = settings.names.faults(batch) | batch.wrong_ids(kinds)
    if faults:
        raise _Refused(400, "the outcomes are not valid", faults)
    return batch


async def _body(request: Request) -> bytes:
    """The whole body, of a content type that is JSON and a size that is allowed."""
    kind, _, rest = request.headers.get("content-type", "application/json").lower().partition(";")
    if kind.strip() != "application/json" or (
        "charset" in rest and not any(one in rest for one in ("utf-8", "utf8", "us-ascii"))
    ):
        raise _Refused(415, "the content type is not JSON", {"content-type": "send application/json in UTF-8"})
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _Refused(413, "the body is too large", {"body": f"at most {MOST_BYTES} bytes"})
        parts.append(part)
    return b"".join(parts)


def _faults(fault: ValidationError) -> list[dict[str, str]]:
    found = []
    for error in fault.errors(include_url=False, include_input=False, include_context=False)[:MOST_FAULTS]:
        path = ""
        for part in error["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        found.append({"field": path[:300] or "body", "problem": str(error["msg"]).removeprefix("Value error, ")})
    return found


def _schema() -> dict[str, Any]:
    """The body that is read raw, described by the model that parses it."""
    schema: dict[str, Any] = Batch.model_json_schema()
    schema["properties"]["outcomes"]["items"] = schema.pop("$defs")["OutcomeIn"]
    meanings = {"400": "a field is at fault", "413": "too large", "415": "not JSON", "503": "not written; send again"}
    answers: dict[str, Any] = {status: {"description": text} for status, text in meanings.items()}
    good = {"description": "on disk", "content": {"application/json": {"schema": Accepted.model_json_schema()}}}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"requestBody": body, "responses": answers | {"200": good}}


async def _http_fault(_: Request, fault: HTTPException) -> JSONResponse:
    return JSONResponse({"error": str(fault.detail)}, status_code=fault.status_code, headers=fault.headers)


async def _unknown_fault(_: Request, fault: Exception) -> JSONResponse:
    _log.error("a batch broke the collector", exc_info=fault)
    return JSONResponse({"error": "internal error"}, status_code=500)


def serve(log: EventLog, sockets: list[socket], settings: CollectorSettings, drain: Drain | None = None) -> None:
    """Serves on sockets that listen, and drains, until SIGTERM or SIGINT; batches under way are answered first."""
    app = make_app(log, settings, drain)
    for one in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains, and then raises the signal again for whoever had it before.
        signal.signal(one, lambda *_: None)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
    uvicorn.Server(config).run(sockets)
