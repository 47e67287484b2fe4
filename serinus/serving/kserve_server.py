"""KServe's model server with its edges closed: REST and gRPC on one address, without a way to unload a model.

Invariant: the ports open only after the model is ready; on SIGTERM requests in flight are answered before the process
ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import uvicorn
from grpc import StatusCode, aio
from kserve import ModelServer, errors
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from serinus.core.errors import SerinusError
from serinus.serving.edge import MOST_BYTES
from serinus.serving.kserve_model import PredictorModel, StrictDecoding
from serinus.serving.kserve_routes import make_app
from serinus.serving.request import BadRequest


@dataclass(frozen=True)
class Address:
    """Where the server listens; a gRPC port of 0 leaves gRPC out."""

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081


class _SwitchedOff(Exception):
    """A call of the protocol that this server does not offer."""


# KServe would log a traceback for each of them, and anyone can send them.
_CALLERS_FAULTS = {
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    _SwitchedOff: StatusCode.UNIMPLEMENTED,
}


class _Statuses(ExceptionToStatusInterceptor):  # type: ignore[misc]
    """Known faults as gRPC statuses."""

    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        """See `SerinusError.http_status`."""
        if type(ex) in _CALLERS_FAULTS:
            await context.abort(_CALLERS_FAULTS[type(ex)], str(ex))
        if not isinstance(ex, SerinusError):
            await super().handle_exception(ex, request_or_iterator, context, method_name)
            return
        code = StatusCode.INVALID_ARGUMENT if ex.http_status < 500 else StatusCode.INTERNAL
        code = StatusCode.UNAVAILABLE if ex.http_status == 503 else code
        await context.abort(code, f"{ex.headline} ({ex.cause})" if isinstance(ex, BadRequest) else ex.headline)


class _Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's, without the calls by which anyone could take the model away."""

    async def RepositoryModelLoad(self, request: Any, context: Any) -> None:
        """Off."""
        raise _SwitchedOff("models are not loaded by request")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> None:
        """Off."""
        raise _SwitchedOff("models are not unloaded by request")


class PredictorGrpc(GRPCServer):  # type: ignore[misc]
    """On the given host, with our statuses."""

    def __init__(self, address: Address, plane: StrictDecoding, repository: Any) -> None:
        super().__init__(address.grpc_port, plane, repository, kwargs={})
        self._address = f"{address.host}:{address.grpc_port}"

    async def start(self, max_workers: int) -> None:
        """Serves until stopped."""
        limits = [("grpc.max_receive_message_length", MOST_BYTES)]
        self._server = aio.server(ThreadPoolExecutor(max_workers), interceptors=(_Statuses(),), options=limits)
        servicer = _Servicer(self._data_plane, self._model_repository_extension)
        services.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._server.wait_for_termination()


class PredictorServer(ModelServer):  # type: ignore[misc]
    """`kserve.ModelServer` for one model; `on_ready` is called once the HTTP port is open."""

    def __init__(self, address: Address, on_ready: Callable[[], None]) -> None:
        grpc = address.grpc_port > 0
        super().__init__(
            http_port=address.http_port, grpc_port=address.grpc_port, enable_grpc=grpc, enable_latency_logging=False
        )
        self._address, self._on_ready = address, on_ready
        self.dataplane = StrictDecoding(model_registry=self.registered_models)

    def start(self, models: list[PredictorModel]) -> None:
        """Serves until SIGTERM or SIGINT; requests in flight are answered first."""
        self._register_and_check_atleast_one_model_is_ready(models)
        app = make_app(self.dataplane)
        config = uvicorn.Config(
            app,
            host=self._address.host,
            port=self._address.http_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=self.grace_period,
            timeout_keep_alive=self.timeout_keep_alive,
        )
        rest = uvicorn.Server(config)
        self.servers += [rest.serve(), self._announce(rest)]
        if self.enable_grpc:
            self._grpc_server = PredictorGrpc(self._address, self.dataplane, self.model_repository_extension)
            self.servers.append(self._grpc_server.start(self.max_threads))
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self.register_signal_handler()
        rest, *others = (asyncio.ensure_future(one) for one in self.servers)
        running: list[asyncio.Future[Any]] = [rest, *others]
        # uvicorn takes the signals while it serves, drains, and hands them on to `stop`, which ends gRPC.
        await asyncio.gather(*running)

    async def _announce(self, rest: uvicorn.Server) -> None:
        while not rest.started and not rest.should_exit:
            await asyncio.sleep(0.01)
        if rest.started:
            self._on_ready()

    def stop(self, sig: int) -> None:
        """Ends gRPC after its requests; the model stays loaded for them."""
        task: Awaitable[None] | None = self._grpc_server.stop() if self._grpc_server else None
        if task is not None:
            self._stopping = asyncio.ensure_future(task)
