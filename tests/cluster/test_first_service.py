"""The first service: applied, Ready, and answering through the gateway as the embedded predictor does, arm by arm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from serinus.client.bucket import BUCKETS
from serinus.core.words import Arm
from tests.cluster.bed.control_groups import memory_bytes
from tests.cluster.bed.places import places
from tests.cluster.conftest import Scale
from tests.cluster.first_service import FirstService, not_ready
from tests.cluster.load import CONCURRENCY, Ask, Plan, Reply, always, failed, send_all
from tests.cluster.manifests import HOME_CLAIM, SERVICE, WEIGHT, route
from tests.cluster.official import InferenceGRPCClient, InferenceRESTClient, RESTConfig, parameter
from tests.cluster.visits import PREDICT, UNKNOWN, Visit, bucket, of_every_unit, unit_of_bucket, without_bucket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
TOLERANCE = 1e-9
BED_BYTES = 3e9
# Of a count outside of its bounds when the weights are right.
CHANCE = 1e-6


def _arms(service: FirstService) -> dict[str, str]:
    return {"stable": service.stable, "canary": service.canary}


def _assigned(service: FirstService) -> list[str]:
    """Revisions by bucket, as a rollout's route says."""
    wanted = route([service.stable, service.canary])
    return [service.canary if wanted.assigned(one) is Arm.CANARY else service.stable for one in range(BUCKETS)]


def _same(answer: dict[str, Any], expected: dict[str, Any]) -> float:
    """The same items in the same order, the same probabilities, and all else equal; the largest difference."""
    assert [one["item"] for one in answer["items"]] == [one["item"] for one in expected["items"]]
    got, wanted = ([one["probability"] for one in each["items"]] for each in (answer, expected))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    assert answer | {"items": ()} == expected | {"items": ()}
    return float(np.abs(np.subtract(got, wanted)).max())


def _answered(service: FirstService, ask: Ask) -> Reply:
    """With features: a store that a busy machine kept from answering in time is asked again, a few times."""
    for _ in range(5):
        (reply,) = send_all(Plan(service.endpoint, always(ask), rate=1000, most=1))
        assert not reply.fault
        if not reply.flags.get("features_unavailable"):
            break
    return reply


def test_the_manifests_applied_come_to_be_ready(first: FirstService) -> None:
    assert not_ready(first.kube) is None
    for name, replicas in ((first.stable, 2), (first.canary, 1)):
        pods = first.kube.pods(f"serving.kserve.io/inferenceservice={name}")
        assert len(pods) == replicas
        assert all(one["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] for one in pods)
        uris = [
            one["persistentVolumeClaim"]["claimName"]
            for one in pods[0]["spec"]["volumes"]
            if "persistentVolumeClaim" in one
        ]
        assert set(uris) == {HOME_CLAIM}


@pytest.mark.bed
def test_the_bed_and_the_service_need_no_more_memory_than_was_said(
    first: FirstService, figure: Callable[[str], None]
) -> None:
    used = memory_bytes(places().control_group)
    figure(f"{used / 1e9:.2f} GB, the bed and the service")
    assert 0 < used <= BED_BYTES


def test_kserve_makes_no_route_of_its_own(first: FirstService) -> None:
    assert [one["metadata"]["name"] for one in first.kube.every("httproutes")] == [SERVICE]


@pytest.mark.parametrize("arm", ["stable", "canary"])
def test_an_answer_through_the_gateway_is_that_of_the_embedded_predictor(
    first: FirstService, figure: Callable[[str], None], arm: str
) -> None:
    """Recorded customers, one that nobody knows, and an item that nobody knows; all with every feature the same."""
    some = first.visits[0]
    asked = [*first.visits, Visit(UNKNOWN, some.items), Visit(some.entity, (*some.items, "no-such-item"))]
    plain, worst = 0, 0.0
    for number, visit in enumerate(asked):
        ask = Ask(PREDICT, visit.instance(request_id=f"same-{arm}-{number}"), {"x-serinus-arm": arm})
        reply = _answered(first, ask)
        assert reply.revision == _arms(first)[arm]
        worst = max(worst, _same(reply.prediction, first.embedded_answer(reply.revision, ask)))
        plain += reply.flags == {"bucket": "forced", "cold_start": False}
    assert plain >= len(first.visits) // 2, "most visits are of customers and items that the features know"
    figure(f"{len(asked)} requests, {plain} with every feature; probabilities differ by {worst:.1g} at most")


def test_requests_without_a_bucket_are_divided_by_the_weights(
    first: FirstService, scale: Scale, figure: Callable[[str], None]
) -> None:
    count = 1_000 * scale.factor
    replies = send_all(Plan(first.endpoint, without_bucket(first.visits), rate=200, most=count))
    assert not failed(replies)
    assert all(one.flags["bucket"] == "missing" for one in replies)
    figure(_divided(first, [one.revision for one in replies]))


def test_requests_without_a_bucket_are_divided_by_the_weights_over_grpc(
    first: FirstService, scale: Scale, figure: Callable[[str], None]
) -> None:
    count = 300 * scale.factor

    async def ask(client: InferenceGRPCClient, number: int) -> str:
        visit = first.visits[number % len(first.visits)]
        answer = await client.infer(visit.v2(f"grpc-weights-{number}"))
        assert '"bucket": "missing"' in parameter(answer, "flags")
        return parameter(answer, "revision")

    async def ask_all() -> list[str]:
        async with InferenceGRPCClient(_host(first), retries=0) as client:
            return await _gathered(lambda number: ask(client, number), range(count))

    figure(_divided(first, asyncio.run(ask_all())))


def _divided(service: FirstService, revisions: list[str]) -> str:
    """The figure; fails when the canary's share is not what its weight makes of so many requests."""
    seen, count = Counter(revisions), len(revisions)
    low, high = binom.ppf([CHANCE / 2, 1 - CHANCE / 2], count, WEIGHT / 100)
    assert low <= seen[service.canary] <= high, f"{seen} of {count}, {low:.0f} to {high:.0f} are the canary's"
    assert seen[service.stable] == count - seen[service.canary]
    return f"{seen[service.canary]} of {count} to the canary; {low:.0f} to {high:.0f} are within bounds"


def test_every_bucket_goes_to_its_arm_over_rest(first: FirstService) -> None:
    few = [Visit(one.entity, one.items[:5]) for one in first.visits]
    replies = send_all(Plan(first.endpoint, of_every_unit(few, "rest"), rate=250, most=BUCKETS))
    assert not failed(replies)
    assert [one.revision for one in replies] == _assigned(first)
    assert all(one.flags["bucket"] == "ok" for one in replies)


def test_every_bucket_goes_to_its_arm_over_grpc(first: FirstService) -> None:
    few = [Visit(one.entity, one.items[:5]) for one in first.visits]

    async def ask(client: InferenceGRPCClient, number: int) -> str:
        request = few[number % len(few)].v2(f"grpc-{number}", unit_of_bucket()[number])
        answer = await client.infer(request, headers=list(bucket(number).items()))
        assert '"bucket": "ok"' in parameter(answer, "flags")
        return parameter(answer, "revision")

    async def ask_all() -> list[str]:
        async with InferenceGRPCClient(_host(first), retries=0) as client:
            return await _gathered(lambda number: ask(client, number), range(BUCKETS))

    assert asyncio.run(ask_all()) == _assigned(first)


@pytest.mark.parametrize("arm", ["stable", "canary"])
def test_a_forced_arm_goes_before_any_bucket_over_rest_and_grpc(first: FirstService, arm: str) -> None:
    """Buckets of both arms, and none."""
    assigned = _assigned(first)
    some = [assigned.index(first.stable), assigned.index(first.canary)]
    headers = [{"x-serinus-arm": arm} | more for more in ({}, bucket(some[0]), bucket(some[1]))]

    async def over_grpc() -> list[str]:
        async with InferenceGRPCClient(_host(first), retries=0) as client:
            answers = [
                await client.infer(first.visits[0].v2(f"forced-{n}"), headers=list(one.items()))
                for n, one in enumerate(headers)
            ]
        return [parameter(one, "revision") for one in answers]

    replies = send_all(
        Plan(first.endpoint, lambda n: Ask(PREDICT, first.visits[0].instance(), headers[n]), rate=50, most=len(headers))
    )
    assert not failed(replies)
    assert {one.revision for one in replies} == {_arms(first)[arm]} == set(asyncio.run(over_grpc()))
    assert all(one.flags["bucket"] == "forced" for one in replies)


@pytest.mark.parametrize("arm", ["stable", "canary"])
def test_the_official_clients_get_the_embedded_answer_in_every_protocol(first: FirstService, arm: str) -> None:
    visit, headers = first.visits[1], {"x-serinus-arm": arm}
    expected = first.embedded_answer(_arms(first)[arm], Ask(PREDICT, visit.instance(request_id="official"), headers))

    async def v1() -> dict[str, Any]:
        client = InferenceRESTClient(RESTConfig(protocol="v1"))
        document = {"instances": [visit.instance(request_id="official")]}
        answer = await client.infer(first.endpoint, document, model_name=SERVICE, headers=headers)
        await client.close()
        return dict(answer["predictions"][0])

    async def v2() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_ready(first.endpoint)
        assert await client.is_model_ready(first.endpoint, SERVICE)
        answer = await client.infer(first.endpoint, visit.v2("official"), model_name=SERVICE, headers=headers)
        await client.close()
        return answer

    async def grpc() -> Any:
        async with InferenceGRPCClient(_host(first), retries=0) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(SERVICE)
            return await client.infer(visit.v2("official"), headers=list(headers.items()))

    _same(asyncio.run(v1()), expected)
    for answer in (asyncio.run(v2()), asyncio.run(grpc())):
        outputs = {one.name: one.as_numpy().reshape(-1).tolist() for one in answer.outputs}
        items = [one.decode() if isinstance(one, bytes) else one for one in outputs["items"]]
        assert items == [one["item"] for one in expected["items"]]
        wanted = [one["probability"] for one in expected["items"]]
        np.testing.assert_allclose(outputs["probabilities"], wanted, rtol=0, atol=TOLERANCE)
        assert parameter(answer, "revision") == expected["revision"]
        assert answer.id == "official"


def _host(service: FirstService) -> str:
    return service.endpoint.removeprefix("http://")


async def _gathered(ask: Callable[[int], Awaitable[str]], numbers: Iterable[int]) -> list[str]:
    """In order, with at most `CONCURRENCY` under way."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(number: int) -> str:
        async with gate:
            return await ask(number)

    return list(await asyncio.gather(*map(one, numbers)))
