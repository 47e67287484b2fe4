"""How serving's tests ask: the HTTP app over a toy, and a gRPC server of its own for the calls of one test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from conftest import Toy
from fastapi import FastAPI
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serinus.serving.kserve_grpc import PredictorGrpc
from serinus.serving.kserve_model import PredictorModel
from serinus.serving.kserve_routes import make_app
from tests.servers import free_port


def _repository(toy: Toy) -> ModelRepository:
    repository = ModelRepository()
    model = PredictorModel(toy.plane)
    model.load()
    repository.update(model)
    return repository


def app(toy: Toy) -> FastAPI:
    """The routes of a predictor of `toy`."""
    return make_app(DataPlane(_repository(toy)))


def with_grpc(toy: Toy, ask: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
    """What `ask` returns of the address of a gRPC server."""
    repository, address = _repository(toy), f"127.0.0.1:{free_port()}"

    async def run() -> Any:
        server = PredictorGrpc([address], DataPlane(repository), ModelRepositoryExtension(repository))
        server.bind(1)
        serving = asyncio.ensure_future(server.start())
        try:
            return await ask(address)
        finally:
            await server.stop()
            await serving

    return asyncio.run(run())


def call(toy: Toy, request: Any, method: str = "ModelInfer", metadata: Sequence[tuple[str, str]] = ()) -> Any:
    """One gRPC call."""

    async def ask(address: str) -> Any:
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
            return await getattr(services.GRPCInferenceServiceStub(channel), method)(request, metadata=metadata)

    return with_grpc(toy, ask)


def infer(**tensors: list[str]) -> Any:
    """A `ModelInfer` request with typed contents."""
    inputs = [
        messages.ModelInferRequest.InferInputTensor(
            name=name, datatype="BYTES", shape=[len(v)],
            contents=messages.InferTensorContents(bytes_contents=[one.encode() for one in v]),
        )
        for name, v in tensors.items()
    ]  # fmt: skip
    return messages.ModelInferRequest(model_name="toy", id="g1", inputs=inputs)
