"""The HTTP routes of KServe's V1 and V2 protocols, and no other: KServe's handlers without explain, load and unload.

Invariant: no answer holds a traceback or the text of an unknown fault; a path without a route is a 404.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from kserve import errors
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from kserve.protocol.rest.v2_datamodels import ModelMetadataResponse
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.exceptions import HTTPException

from serinus.core.errors import SerinusError
from serinus.serving.edge import Edge
from serinus.serving.exchange import JSON_LENGTH, V1, V2, Exchange
from serinus.serving.request import BadRequest, Instance
from serinus.serving.tensors import DATATYPES

# KServe's own handlers log a traceback for each unknown model's name.
_KSERVE_FAULTS = {errors.InvalidInput: 400, errors.ModelNotFound: 404, errors.ModelNotReady: 503}
_log = logging.getLogger("serinus.serving")


class _Handlers:
    """Handlers that KServe's own do not fit: its V1 wraps its answer, its V2 decodes before we can name the field, its
    others take a version that does not exist.
    """

    def __init__(self, plane: DataPlane) -> None:
        self._plane, self._v2 = plane, V2Endpoints(plane)

    async def predict(self, model_name: str, request: Request) -> Response:
        """V1: the body as it came, the answer as bytes."""
        return await self._exchanged(model_name, request, V1(await request.body()))

    async def infer(self, model_name: str, request: Request) -> Response:
        """V2, JSON or binary."""
        exchange = V2(model_name, await request.body(), request.headers.get(JSON_LENGTH))
        return await self._exchanged(model_name, request, exchange)

    async def _exchanged(self, model_name: str, request: Request, exchange: Exchange) -> Response:
        if not await self._plane.model_ready(model_name, True):
            raise errors.ModelNotReady(model_name)
        headers = dict(request.headers)
        body, sent = await self._plane.infer(model_name=model_name, request=exchange, headers=headers)
        return Response(body.content, media_type=body.media_type, headers=sent | body.headers)

    async def metadata(self, model_name: str) -> ModelMetadataResponse:
        """V2: the tensors of a model."""
        return await self._v2.model_metadata(model_name)

    async def ready(self, model_name: str) -> Any:
        """V2: whether a model is ready; 503 when it is not."""
        return await self._v2.model_ready(model_name)


def make_app(plane: DataPlane) -> FastAPI:
    """The routes, /metrics, and /openapi.json that describes them."""
    app = FastAPI(title="Serinus predictor", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    own, v1, v2 = _Handlers(plane), V1Endpoints(plane), V2Endpoints(plane)
    app.add_api_route("/", plane.live, methods=["GET"])
    app.add_api_route("/metrics", metrics_handler, methods=["GET"], include_in_schema=False)
    app.add_api_route("/v1/models", v1.models, methods=["GET"])
    app.add_api_route("/v1/models/{model_name}", v1.model_ready, methods=["GET"], responses=_answers("404", "503"))
    app.add_api_route(
        "/v1/models/{model_name}:predict", own.predict, methods=["POST"], openapi_extra=_body_schema(_PREDICT)
    )
    app.add_api_route("/v2", v2.metadata, methods=["GET"])
    app.add_api_route("/v2/health/live", v2.live, methods=["GET"])
    app.add_api_route("/v2/health/ready", v2.ready, methods=["GET"], responses=_answers("503"))
    app.add_api_route("/v2/models", v2.models, methods=["GET"])
    app.add_api_route("/v2/models/{model_name}", own.metadata, methods=["GET"], responses=_answers("404"))
    app.add_api_route("/v2/models/{model_name}/ready", own.ready, methods=["GET"], responses=_answers("404", "503"))
    app.add_api_route("/v2/models/{model_name}/infer", own.infer, methods=["POST"], openapi_extra=_body_schema(_INFER))
    for kind in _KSERVE_FAULTS:
        app.add_exception_handler(kind, _kserve_fault)
    app.add_exception_handler(HTTPException, _http_fault)  # type: ignore[arg-type]
    app.add_exception_handler(SerinusError, _known_fault)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unknown_fault)
    app.add_middleware(Edge)
    return app


_MEANINGS = {
    "400": "a field is at fault, and named",
    "404": "no such model",
    "413": "the body is too large",
    "415": "the body is not JSON",
    "503": "not ready",
}


def _answers(*statuses: str) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _MEANINGS[status]} for status in statuses}


_PREDICT = {
    "type": "object",
    "required": ["instances"],
    "additionalProperties": False,
    "properties": {"instances": {"type": "array", "minItems": 1, "maxItems": 1, "items": Instance.model_json_schema()}},
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "datatype": {"enum": list(DATATYPES)},
                    "data": {"type": "array"},
                },
            },
        },
    },
}


def _body_schema(body: dict[str, Any]) -> dict[str, Any]:
    """The body that is read raw, described by what its parser takes."""
    content = {"application/json": {"schema": body}}
    return {"requestBody": {"required": True, "content": content}, "responses": _answers(*_MEANINGS)}


async def _kserve_fault(_: Request, fault: Exception) -> JSONResponse:
    return JSONResponse({"error": str(fault)}, status_code=_KSERVE_FAULTS[type(fault)])


async def _http_fault(_: Request, fault: HTTPException) -> JSONResponse:
    return JSONResponse({"error": str(fault.detail)}, status_code=fault.status_code, headers=fault.headers)


async def _known_fault(_: Request, fault: SerinusError) -> JSONResponse:
    if isinstance(fault, BadRequest):
        return JSONResponse(fault.as_body(), status_code=fault.http_status)
    _log.error("%s: %s", fault.headline, fault.cause)
    return JSONResponse({"error": fault.headline}, status_code=fault.http_status)


async def _unknown_fault(_: Request, fault: Exception) -> JSONResponse:
    _log.error("a request broke the server", exc_info=fault)
    return JSONResponse({"error": "internal error"}, status_code=500)
