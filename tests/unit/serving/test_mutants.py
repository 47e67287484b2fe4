"""Ten thousand mutated messages a protocol: none is the server's fault, and what is refused leaves no exposure."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import mutants
import pytest
from asking import app, with_grpc
from conftest import Toy
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

SEED = 20_240_305
FEW, MANY = 600, 10_000
PATHS = {mutants.v1: "/v1/models/toy:predict", mutants.v2: "/v2/models/toy/infer"}
METHOD = "/inference.GRPCInferenceService/ModelInfer"
LENGTHS = [pytest.param(FEW), pytest.param(MANY, marks=pytest.mark.slow)]


async def _asked(served: Any, path: str, request: mutants.Http) -> tuple[int, bytes]:
    """Status and body, without a client in between that would mend what it sends."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value) for name, value in request.headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("test", 1), "server": ("test", 80),
    }  # fmt: skip
    await served(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


@pytest.mark.parametrize("many", LENGTHS)
@pytest.mark.parametrize("make", PATHS, ids=["v1", "v2"])
def test_no_mutant_over_http_is_the_servers_fault(
    ranking: Toy, make: Callable[[random.Random], mutants.Http], many: int
) -> None:
    chance, served, seen = random.Random(SEED), app(ranking), Counter[int]()

    async def run() -> None:
        for _ in range(many):
            request = make(chance)
            status, body = await _asked(served, PATHS[make], request)
            seen[status] += 1
            assert status in (200, 400, 415), (request, body)
            if status != 200:
                told = json.loads(body)
                assert set(told) == {"error", "fields"}, (request, told)
                assert all(one["field"] and one["problem"] for one in told["fields"])

    asyncio.run(run())
    assert len(ranking.log.exposures) == seen[200]
    assert min(seen[200], seen[400]) > many / 20, seen


@pytest.mark.parametrize("many", LENGTHS)
def test_no_mutant_over_grpc_is_the_servers_fault(ranking: Toy, many: int) -> None:
    chance, seen = random.Random(SEED), Counter[grpc.StatusCode]()
    allowed = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

    async def run(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            ask = channel.unary_unary(METHOD)
            for _ in range(many):
                wire = mutants.grpc(chance)
                code, text = await _status(ask, wire)
                seen[code] += 1
                assert code in allowed, (wire, code, text)
                assert code is grpc.StatusCode.OK or text, wire

    with_grpc(ranking, run)
    assert len(ranking.log.exposures) == seen[grpc.StatusCode.OK]
    assert min(seen[grpc.StatusCode.OK], seen[grpc.StatusCode.INVALID_ARGUMENT]) > many / 20, seen


async def _status(ask: Any, wire: bytes) -> tuple[grpc.StatusCode, str]:
    try:
        messages.ModelInferResponse.FromString(await ask(wire))
    except grpc.aio.AioRpcError as refused:
        return refused.code(), str(refused.details())
    return grpc.StatusCode.OK, ""
