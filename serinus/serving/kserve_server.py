"""KServe's model server with its edges closed: REST and gRPC on one address, without a way to unload a model.

Invariant: the ports open only after the model is ready, gRPC's first, and nothing is announced before both did; on
SIGTERM requests in flight are answered before the process ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvicorn
from kserve import ModelServer

from serinus.serving.kserve_grpc import PredictorGrpc
from serinus.serving.kserve_model import PredictorModel
from serinus.serving.kserve_routes import make_app


class PredictorServer(ModelServer):  # type: ignore[misc]
    """`kserve.ModelServer` for one model; `on_ready` is called once all ports are open.

    `grpc`: addresses, none to leave gRPC out. `listen` opens the HTTP port.
    """

    def __init__(
        self, grpc: Sequence[str], listen: Callable[[], list[socket.socket]], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(enable_grpc=bool(grpc), enable_latency_logging=False)
        self._listen, self._on_ready = listen, on_ready
        self._grpc_server = PredictorGrpc(grpc, self.dataplane, self.model_repository_extension) if grpc else None

    def start(self, models: list[PredictorModel]) -> None:
        """Serves until SIGTERM or SIGINT; requests in flight are answered first. Raises `Conflict` for a taken port."""
        self._register_and_check_atleast_one_model_is_ready(models)
        config = uvicorn.Config(
            make_app(self.dataplane),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=self.grace_period,
            timeout_keep_alive=self.timeout_keep_alive,
        )
        asyncio.run(self._until_stopped(uvicorn.Server(config)))

    async def _until_stopped(self, rest: uvicorn.Server) -> None:
        running: list[Awaitable[Any]] = []
        if self._grpc_server:
            self._grpc_server.bind(self.max_threads)
        sockets = self._listen()
        if self._grpc_server:
            running.append(asyncio.ensure_future(self._grpc_server.start()))
        self.register_signal_handler()
        # uvicorn takes the signals while it serves, drains, and hands them on to `stop`, which ends gRPC.
        await asyncio.gather(rest.serve(sockets), self._announce(rest), *running)

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
