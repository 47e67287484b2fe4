"""KServe's protocols over the toy model: V1 and V2 give the data plane's answer, faults name the field."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from asking import app, call, infer
from conftest import Toy, make
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from starlette.testclient import TestClient
from toy import SALT

from serinus.client import bucket_header
from serinus.client.bucket import ARM_HEADER, ROUTE_HEADER
from serinus.core.errors import BundleError
from serinus.serving.kserve_model import PredictorModel

PREDICT = "/v1/models/toy:predict"
INFER = "/v2/models/toy/infer"


@pytest.fixture
def http(ranking: Toy) -> Iterator[TestClient]:
    with TestClient(app(ranking), raise_server_exceptions=False) as client:
        yield client


def _tensor(name: str, *values: str) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": list(values)}


def _amount(value: float) -> dict[str, Any]:
    return {"name": "amount", "shape": [1], "datatype": "FP64", "data": [value]}


def test_v1_answers_with_the_ranking(http: TestClient, ranking: Toy) -> None:
    instance = {"entity": "1", "items": ["a", "c"], "request_id": "r1"}
    answer = http.post(PREDICT, json={"instances": [instance]}, headers=bucket_header(SALT, "1"))
    assert answer.status_code == 200
    (found,) = answer.json()["predictions"]
    assert [one["item"] for one in found["items"]] == ["c", "a"]
    assert found["items"][0]["probability"] == ranking.log.scores[0].probabilities[0]
    assert (found["request_id"], found["model_version"], found["revision"]) == ("r1", "3", "toy-v3-abcdef")
    assert found["flags"] == {"bucket": "ok", "cold_start": False}
    assert answer.headers["x-serinus-revision"] == "toy-v3-abcdef"
    assert answer.headers["x-request-id"] == "r1"


def test_v2_gives_the_same_numbers(http: TestClient) -> None:
    v1 = http.post(PREDICT, json={"instances": [{"entity": "1", "items": ["a", "c"]}]}).json()["predictions"][0]
    body = {"id": "r2", "inputs": [_tensor("entity", "1"), _tensor("items", "a", "c")]}
    answer = http.post(INFER, json=body).json()
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert outputs["items"] == [one["item"] for one in v1["items"]]
    assert outputs["probabilities"] == [one["probability"] for one in v1["items"]]
    assert (answer["id"], answer["model_version"]) == ("r2", "3")
    assert json.loads(answer["parameters"]["flags"])["bucket"] == "missing"


def test_v2_takes_binary_tensors(http: TestClient) -> None:
    entity, items = InferInput("entity", [1], "BYTES"), InferInput("items", [2], "BYTES")
    entity.set_data_from_numpy(np.array(["1"], dtype=object))
    items.set_data_from_numpy(np.array(["a", "c"], dtype=object))
    body, length = InferRequest("toy", [entity, items]).to_rest()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
    answer = http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == ["c", "a"]


def test_v2_context_is_every_other_tensor() -> None:
    with TestClient(app(make("scoring"))) as client:
        v2 = client.post(INFER, json={"inputs": [_tensor("entity", "1"), _amount(7.0)]}).json()
        v1 = client.post(PREDICT, json={"instances": [{"entity": "1", "context": {"amount": 7.0}}]}).json()
    assert v2["outputs"][0]["data"] == [v1["predictions"][0]["probability"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": [{}, {}]}, "instances"),
        ({"instances": [{}]}, "instances[0].entity"),
        ({"instances": [{"entity": ""}]}, "instances[0].entity"),
        ({"instances": [{"entity": True}]}, "instances[0].entity"),
        ({"instances": [{"entity": "a\nb"}]}, "instances[0].entity"),
        ({"instances": [{"entity": "1", "items": ["a", None]}]}, "instances[0].items[1]"),
        ({"instances": [{"entity": "1", "items": ["a", "a"]}]}, "instances[0].items"),
        ({"instances": [{"entity": "1", "items": [str(i) for i in range(501)]}]}, "instances[0].items"),
        ({"instances": [{"entity": "1", "items": ["a"], "as_of": "soon"}]}, "instances[0].as_of"),
        ({"instances": [{"entity": "1", "items": ["a"], "salary": 1}]}, "instances[0].salary"),
        ({"instances": [{"entity": "1", "items": ["a"], "context": {"x": "y"}}]}, "instances[0].context.x"),
        ({"instances": [{"entity": "1", "items": ["a"]}], "signature_name": "x"}, "signature_name"),
        ({"specversion": "1.0", "id": "1", "source": "x", "type": "y"}, "id"),
    ],
)
def test_a_malformed_v1_request_names_the_field_and_is_counted(
    http: TestClient, ranking: Toy, body: object, field: str
) -> None:
    answer = http.post(PREDICT, json=body)
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["field"] == field
    assert ranking.count("serinus_requests_total", outcome="refused") == 1


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances": NaN}', b"\xff\xfe", b'{"a": "\\ud800"}'])
def test_what_is_not_json_is_refused(http: TestClient, body: bytes) -> None:
    answer = http.post(PREDICT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["field"] == "body"


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([_tensor("items", "a")], "inputs.entity"),
        ([_tensor("entity", "1", "2"), _tensor("items", "a")], "inputs[0]"),
        ([{"name": "entity", "shape": [2], "datatype": "INT64", "data": [1]}], "inputs[0].data"),
        ([{"name": "entity", "shape": [1], "datatype": "WHAT", "data": [1]}], "inputs[0].datatype"),
        ([_tensor("entity", "1"), _tensor("items", "a"), _tensor("amount", "7")], "inputs[2]"),
        ([_tensor("entity", "1"), _tensor("items", "a"), _amount(7.0)], "context.amount"),
    ],
)
def test_a_malformed_v2_request_names_the_tensor(http: TestClient, inputs: list[Any], field: str) -> None:
    answer = http.post(INFER, json={"inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert answer.json()["fields"][0]["field"] == field


@pytest.mark.parametrize("length", ["abc", "-5", "99999", None])
def test_a_wrong_binary_length_is_a_bad_request(http: TestClient, length: str | None) -> None:
    headers = {"content-type": "application/octet-stream"}
    headers |= {"inference-header-content-length": length} if length else {}
    assert 400 <= http.post(INFER, content=b'{"inputs": []}', headers=headers).status_code < 500


def test_the_model_cannot_be_taken_away(http: TestClient) -> None:
    for verb in ("load", "unload"):
        assert http.post(f"/v2/repository/models/toy/{verb}").status_code == 404
    assert http.post("/v1/models/toy:explain", json={}).status_code == 405
    assert http.get("/v2/models/toy/ready").json()["ready"] is True


def test_no_path_is_led_to_another(http: TestClient) -> None:
    assert http.post(PREDICT + "/", json={}, follow_redirects=False).status_code == 404


def test_health_metadata_and_metrics(http: TestClient) -> None:
    assert http.get("/v2/health/live").status_code == http.get("/v2/health/ready").status_code == 200
    assert http.get("/v1/models/toy").json() == {"name": "toy", "ready": True}
    assert http.get("/v1/models/other").status_code == 404
    described = http.get("/v2/models/toy").json()
    assert [one["name"] for one in described["inputs"]] == ["entity", "unit", "items", "as_of"]
    assert "python_info" in http.get("/metrics").text


def test_a_bug_is_a_plain_500_without_its_text(http: TestClient, monkeypatch: pytest.MonkeyPatch, ranking: Toy) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of line 7")

    monkeypatch.setattr(ranking.plane, "answer", broken)
    answer = http.post(PREDICT, json={"instances": [{"entity": "1", "items": ["a"]}]})
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error"}


def test_a_model_that_does_not_reproduce_its_golden_rows_is_never_ready(
    ranking: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking.plane.bundle.scorer, "bias", 0.5)
    model = PredictorModel(ranking.plane)
    with pytest.raises(BundleError, match="golden rows"):
        model.load()
    assert not model.ready


def test_the_official_rest_client_is_answered(ranking: Toy) -> None:
    import asyncio

    import httpx

    async def ask() -> Any:
        transport = httpx.ASGITransport(app(ranking))
        client = InferenceRESTClient(RESTConfig(transport=transport, protocol="v2", retries=0))
        entity, items = InferInput("entity", [1], "BYTES", ["1"]), InferInput("items", [2], "BYTES", ["a", "c"])
        return await client.infer("http://toy.local", InferRequest("toy", [entity, items]), model_name="toy")

    assert asyncio.run(ask()).get_output_by_name("items").data == ["c", "a"]


def test_grpc_gives_the_same_ranking(ranking: Toy) -> None:
    metadata = (("x-serinus-bucket", bucket_header(SALT, "1")["x-serinus-bucket"]),)
    answer = call(ranking, infer(entity=["1"], items=["a", "c"]), metadata=metadata)
    assert (answer.id, answer.model_version) == ("g1", "3")
    assert [one.name for one in answer.outputs] == ["items", "probabilities"]
    assert ranking.log.exposures[0].bucket_check == "ok"
    contents = answer.outputs[1].contents.fp64_contents or struct.unpack("<2d", answer.raw_output_contents[1])
    assert tuple(contents) == ranking.log.scores[0].probabilities


STAMPS = {"": "", "toy-v2-abcdef-1.3": "toy-v2-abcdef-1.3", "not a stamp": "not a stamp", "x" * 300: "x" * 80}


@pytest.mark.parametrize("stamp", STAMPS, ids=["none", "stamp", "malformed", "long"])
@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_the_stamp_of_the_route_is_logged_as_it_came_and_cut(ranking: Toy, protocol: str, stamp: str) -> None:
    headers = {ROUTE_HEADER: stamp} if stamp else {}
    if protocol == "grpc":
        call(ranking, infer(entity=["1"], items=["a", "c"]), metadata=tuple(headers.items()))
    else:
        path, body = {
            "v1": (PREDICT, {"instances": [{"entity": "1", "items": ["a", "c"]}]}),
            "v2": (INFER, {"inputs": [_tensor("entity", "1"), _tensor("items", "a", "c")]}),
        }[protocol]
        with TestClient(app(ranking)) as client:
            assert client.post(path, json=body, headers=headers).status_code == 200
    (exposure,) = ranking.log.exposures
    assert exposure.route == STAMPS[stamp]
    assert (exposure.service, exposure.forced_arm, exposure.bucket_check) == ("default/toy", "", "missing")


@pytest.mark.parametrize("name", [ARM_HEADER, ROUTE_HEADER])
@pytest.mark.parametrize(("value", "logged"), [(b"x" * 30_000, "x" * 80), (b"a\x1b31m\tb", "a?31m?b")])
def test_a_header_that_is_logged_has_a_length_and_steers_no_terminal(
    ranking: Toy, name: str, value: bytes, logged: str
) -> None:
    body = {"instances": [{"entity": "1", "items": ["a", "c"]}]}
    with TestClient(app(ranking)) as client:
        assert client.post(PREDICT, json=body, headers=[(name.encode(), value)]).status_code == 200
    (exposure,) = ranking.log.exposures
    assert (exposure.forced_arm or exposure.route) == logged
    assert exposure.bucket_check == ("forced" if name == ARM_HEADER else "missing")


def test_grpc_faults_are_statuses_with_the_field_and_fill_no_log(
    ranking: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(ranking, infer(items=["a"]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inputs.entity" in str(refused.value.details())
    for verb in ("Load", "Unload"):
        asked = getattr(messages, f"RepositoryModel{verb}Request")(model_name="toy")
        with pytest.raises(grpc.aio.AioRpcError) as closed:
            call(ranking, asked, f"RepositoryModel{verb}")
        assert closed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        call(ranking, messages.ModelInferRequest(model_name="other"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert not [record for record in caplog.records if record.exc_info]


def test_a_long_fault_reaches_the_caller_of_grpc_as_the_status_that_it_is(ranking: Toy) -> None:
    faults = infer(entity=["1"], items=["é "] * 500), messages.ModelInferRequest(model_name="é" * 50_000)
    for asked, status in zip(faults, (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), strict=True):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            call(ranking, asked)
        assert refused.value.code() is status
        assert str(refused.value.details()).endswith("…")
