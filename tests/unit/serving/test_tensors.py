"""Tensors of the V2 protocol: every encoding is read alike, and what is malformed is refused with its field."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from asking import app, call
from conftest import Toy, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kserve import InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.infer_type import RequestedOutput
from starlette.testclient import TestClient

from serinus.serving import tensors
from serinus.serving.request import BadRequest

INFER = "/v2/models/toy/infer"
LENGTH = "inference-header-content-length"
# datatype -> what numpy makes of it
NUMBERS = {name: one.numpy for name, one in tensors.DATATYPES.items() if one.numpy}


@pytest.fixture
def http(ranking: Toy) -> Iterator[TestClient]:
    with TestClient(app(ranking), raise_server_exceptions=False) as client:
        yield client


def texts(name: str, /, *values: str, **changes: Any) -> dict[str, Any]:
    """A tensor of BYTES in JSON."""
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": list(values)} | changes


def framed(*values: bytes) -> bytes:
    """Raw BYTES, as Triton's and KServe's clients write them."""
    return b"".join(struct.pack("<I", len(one)) + one for one in values)


def raw(datatype: str, name: str, shape: list[int], content: bytes) -> tuple[dict[str, Any], bytes]:
    """A binary tensor over REST."""
    parameters = {"binary_data_size": len(content)}
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}, content


def post(client: TestClient, document: dict[str, Any], *binary: bytes, length: str | None = None) -> Any:
    text = json.dumps(document).encode()
    headers = {LENGTH: str(len(text)) if length is None else length, "content-type": "application/octet-stream"}
    return client.post(INFER, content=text + b"".join(binary), headers=headers)


def official(binary: bool) -> InferRequest:
    """By KServe's own classes."""
    made = []
    for name, values in (("entity", ["1"]), ("items", ["a", "c"])):
        one = InferInput(name, [len(values)], "BYTES")
        one.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
        made.append(one)
    return InferRequest("toy", made, request_id="r")


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_is_answered_over_grpc_as_it_asked(ranking: Toy, binary: bool) -> None:
    answer = call(ranking, official(binary).to_grpc())
    items, probabilities = answer.outputs
    if binary:
        assert answer.raw_output_contents[0] == framed(b"c", b"a")
        found = struct.unpack("<2d", answer.raw_output_contents[1])
    else:
        assert list(items.contents.bytes_contents) == [b"c", b"a"]
        found = tuple(probabilities.contents.fp64_contents)
    assert found == ranking.log.scores[0].probabilities
    assert list(items.shape) == list(probabilities.shape) == [2]
    assert answer.parameters["revision"].string_param == "toy-v3-abcdef"


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_client_is_answered_over_rest(http: TestClient, binary: bool) -> None:
    body, length = official(binary).to_rest()
    headers = {LENGTH: str(length)} if length else {}
    answer = http.post(INFER, content=body if length else json.dumps(body), headers=headers)
    assert answer.json()["outputs"][0]["data"] == ["c", "a"]


def test_binary_answers_are_sent_where_they_are_asked_for(http: TestClient, ranking: Toy) -> None:
    """Triton's HTTP client asks for them unless told otherwise."""
    inputs = [texts("entity", "1"), texts("items", "a", "c")]
    answer = http.post(INFER, json={"inputs": inputs, "parameters": {"binary_data_output": True}})
    length = int(answer.headers[LENGTH])
    items, probabilities = json.loads(answer.content[:length])["outputs"]
    assert items["parameters"] == {"binary_data_size": 10}
    assert "data" not in items
    assert answer.content[length : length + 10] == framed(b"c", b"a")
    assert struct.unpack("<2d", answer.content[length + 10 :]) == ranking.log.scores[0].probabilities
    assert (probabilities["datatype"], answer.headers["content-type"]) == ("FP64", "application/octet-stream")


def test_outputs_can_be_chosen_each_with_its_encoding(http: TestClient) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "items"}]
    answer = http.post(INFER, json={"inputs": [texts("entity", "1"), texts("items", "a")], "outputs": wanted})
    told = json.loads(answer.content[: int(answer.headers[LENGTH])])["outputs"]
    assert [one["name"] for one in told] == ["probabilities", "items"]
    assert told[1]["data"] == ["a"]
    only = http.post(INFER, json={"inputs": [texts("entity", "1"), texts("items", "a")], "outputs": wanted[1:]})
    assert [one["name"] for one in only.json()["outputs"]] == ["items"]


def test_grpc_answers_with_the_outputs_asked_for(ranking: Toy) -> None:
    asked = official(True)
    asked.request_outputs = [RequestedOutput("probabilities")]
    answer = call(ranking, asked.to_grpc())
    assert [one.name for one in answer.outputs] == ["probabilities"]
    assert len(answer.raw_output_contents) == 1


@pytest.mark.parametrize("datatype", [name for name in NUMBERS if NUMBERS[name] not in ("?", "<u1", "<i1")])
def test_every_datatype_of_numbers_is_read_in_every_encoding(datatype: str) -> None:
    toy, value = make("scoring"), np.array([300], dtype=NUMBERS[datatype])
    seen = []
    with TestClient(app(toy)) as client:
        amount = {"name": "amount", "shape": [1], "datatype": datatype, "data": value.tolist()}
        seen.append(client.post(INFER, json={"inputs": [texts("entity", "1"), amount]}))
        entity, amount_raw = raw("BYTES", "entity", [1], framed(b"1")), raw(datatype, "amount", [1], value.tobytes())
        seen.append(post(client, {"inputs": [entity[0], amount_raw[0]]}, entity[1], amount_raw[1]))
        mixed = {"inputs": [amount_raw[0], texts("entity", "1")]}
        seen.append(post(client, mixed, amount_raw[1]))
    assert [one.status_code for one in seen] == [200, 200, 200]
    asked = messages.ModelInferRequest(model_name="toy", raw_input_contents=[framed(b"1"), value.tobytes()])
    for name, kind in (("entity", "BYTES"), ("amount", datatype)):
        asked.inputs.add(name=name, datatype=kind, shape=[1])
    call(toy, asked)
    assert len({one.probabilities for one in toy.log.scores}) == 1
    assert len(toy.log.scores) == 4


ENTITY, ITEMS = texts("entity", "1"), texts("items", "a")
BAD_BODIES: dict[str, tuple[Any, str]] = {
    "no object": ([], "body"),
    "no inputs": ({}, "inputs"),
    "inputs null": ({"inputs": None}, "inputs"),
    "inputs an object": ({"inputs": {}}, "inputs"),
    "inputs empty": ({"inputs": []}, "inputs"),
    "inputs of numbers": ({"inputs": [1]}, "inputs[0]"),
    "no name": ({"inputs": [{"shape": [1], "datatype": "BYTES", "data": ["1"]}]}, "inputs[0].name"),
    "name empty": ({"inputs": [texts("", "1")]}, "inputs[0].name"),
    "name a number": ({"inputs": [texts("entity", "1", name=3)]}, "inputs[0].name"),
    "no shape": ({"inputs": [{"name": "entity", "datatype": "BYTES", "data": ["1"]}, ITEMS]}, "inputs[0].shape"),
    "shape null": ({"inputs": [texts("entity", "1", shape=None), ITEMS]}, "inputs[0].shape"),
    "shape a number": ({"inputs": [texts("entity", "1", shape=1), ITEMS]}, "inputs[0].shape"),
    "shape of truths": ({"inputs": [texts("entity", "1", shape=[True]), ITEMS]}, "inputs[0].shape"),
    "shape below 0": ({"inputs": [texts("entity", "1", shape=[-1]), ITEMS]}, "inputs[0].shape"),
    "shape of fractions": ({"inputs": [texts("entity", "1", shape=[1.0]), ITEMS]}, "inputs[0].shape"),
    "shape beyond 64 bits": ({"inputs": [texts("entity", "1", shape=[2**70]), ITEMS]}, "inputs[0].shape"),
    "shape too large": ({"inputs": [texts("entity", "1", shape=[2**62, 2**62]), ITEMS]}, "inputs[0].data"),
    "shape of many dimensions": ({"inputs": [texts("entity", "1", shape=[2**62] * 2000), ITEMS]}, "inputs[0].shape"),
    "shape of many ones": ({"inputs": [texts("entity", "1", shape=[1] * 9), ITEMS]}, "inputs[0].shape"),
    "shape of another size": ({"inputs": [ENTITY, texts("items", "a", "c", shape=[3])]}, "inputs[1].data"),
    "shape 0": ({"inputs": [texts("entity", "1", shape=[0]), ITEMS]}, "inputs[0].data"),
    "no data": ({"inputs": [{"name": "entity", "shape": [1], "datatype": "BYTES"}, ITEMS]}, "inputs[0].data"),
    "data null": ({"inputs": [texts("entity", "1", data=None), ITEMS]}, "inputs[0].data"),
    "data of null": ({"inputs": [texts("entity", "1", data=[None]), ITEMS]}, "inputs[0].data[0]"),
    "data a text": ({"inputs": [texts("entity", "1", data="1"), ITEMS]}, "inputs[0].data"),
    "data an object": ({"inputs": [texts("entity", "1", data={}), ITEMS]}, "inputs[0].data"),
    "nested otherwise": ({"inputs": [ENTITY, texts("items", shape=[2], data=[["a"], ["c"]])]}, "inputs[1].data[0]"),
    "nested unevenly": ({"inputs": [ENTITY, texts("items", "a", shape=[2], data=["a", ["c"]])]}, "inputs[1].data[1]"),
    "no datatype": ({"inputs": [{"name": "entity", "shape": [1], "data": ["1"]}, ITEMS]}, "inputs[0].datatype"),
    "datatype unknown": ({"inputs": [texts("entity", "1", datatype="bytes"), ITEMS]}, "inputs[0].datatype"),
    "datatype a list": ({"inputs": [texts("entity", "1", datatype=["BYTES"]), ITEMS]}, "inputs[0].datatype"),
    "a number as BYTES": ({"inputs": [texts("entity", "1", data=[1]), ITEMS]}, "inputs[0].data[0]"),
    "a text as INT64": ({"inputs": [texts("entity", "1", datatype="INT64"), ITEMS]}, "inputs[0].data[0]"),
    "beyond INT8": ({"inputs": [texts("entity", "1", datatype="INT8", data=[200]), ITEMS]}, "inputs[0].data[0]"),
    "below UINT8": ({"inputs": [texts("entity", "1", datatype="UINT8", data=[-1]), ITEMS]}, "inputs[0].data[0]"),
    "a fraction of INT8": ({"inputs": [texts("entity", "1", datatype="INT8", data=[1.5]), ITEMS]}, "inputs[0].data[0]"),
    "a fraction as an id": ({"inputs": [texts("entity", "1", datatype="FP64", data=[1.5]), ITEMS]}, "inputs[0]"),
    "a truth as an id": ({"inputs": [texts("entity", "1", datatype="BOOL", data=[True]), ITEMS]}, "inputs[0]"),
    "named twice": ({"inputs": [ENTITY, ITEMS, texts("entity", "2")]}, "inputs[2]"),
    "items named twice": ({"inputs": [ENTITY, ITEMS, texts("items", "c")]}, "inputs[2]"),
    "an item twice": ({"inputs": [ENTITY, texts("items", "a", "a")]}, "inputs[1]"),
    "two entities": ({"inputs": [texts("entity", "1", "2"), ITEMS]}, "inputs[0]"),
    "control characters": ({"inputs": [texts("entity", "a\nb"), ITEMS]}, "inputs[0]"),
    "an item that is empty": ({"inputs": [ENTITY, texts("items", "a", "")]}, "inputs[1][1]"),
    "id a number": ({"id": 5, "inputs": [ENTITY, ITEMS]}, "id"),
    "id too long": ({"id": "x" * 300, "inputs": [ENTITY, ITEMS]}, "id"),
    "parameters a list": ({"inputs": [ENTITY, ITEMS], "parameters": [1]}, "parameters"),
    "outputs an object": ({"inputs": [ENTITY, ITEMS], "outputs": {}}, "outputs"),
    "an unknown output": ({"inputs": [ENTITY, ITEMS], "outputs": [{"name": "classes"}]}, "outputs[0].name"),
    "an output named twice": ({"inputs": [ENTITY, ITEMS], "outputs": [{"name": "items"}] * 2}, "outputs[1].name"),
    "an output without a name": ({"inputs": [ENTITY, ITEMS], "outputs": [{}]}, "outputs[0].name"),
    "classes": (
        {"inputs": [ENTITY, ITEMS], "outputs": [{"name": "items", "parameters": {"classification": 2}}]},
        "outputs[0].parameters.classification",
    ),
    "a size without bytes": (
        {"inputs": [{"name": "entity", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}]},
        "body",
    ),
    "a size below 0": (
        {"inputs": [ENTITY, ITEMS | {"parameters": {"binary_data_size": -1}}]},
        "inputs[1].parameters.binary_data_size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", BAD_BODIES)
def test_a_malformed_body_is_refused_with_its_field_and_leaves_no_exposure(
    http: TestClient, ranking: Toy, which: str
) -> None:
    body, field = BAD_BODIES[which]
    answer = http.post(INFER, json=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "fields"}
    assert [one["field"] for one in answer.json()["fields"]] == [field]
    assert ranking.log.exposures == []
    assert ranking.count("serinus_requests_total", outcome="refused") == 1


@pytest.mark.parametrize(
    ("content", "shape", "field"),
    [
        (struct.pack("<I", 2) + b"1", [1], "inputs[0][0]"),
        (struct.pack("<I", 2**32 - 1) + b"1", [1], "inputs[0][0]"),
        (b"\x01", [1], "inputs[0][0]"),
        (framed(b"1") + b"\0\0", [2], "inputs[0][1]"),
        (framed(b"1", b"2"), [1], "inputs[0]"),
        (framed(b"1"), [2], "inputs[0]"),
        (framed(), [1], "inputs[0]"),
        (framed(b"\xff\xfe"), [1], "inputs[0][0]"),
    ],
)
def test_bytes_that_are_no_elements_are_refused_alike_over_rest_and_grpc(
    http: TestClient, ranking: Toy, content: bytes, shape: list[int], field: str
) -> None:
    entity, _ = raw("BYTES", "entity", shape, content)
    over_rest = post(http, {"inputs": [entity, ITEMS]}, content)
    assert over_rest.status_code == 400
    (fault,) = over_rest.json()["fields"]
    assert fault["field"] == field
    asked = messages.ModelInferRequest(model_name="toy", raw_input_contents=[content, framed(b"a")])
    asked.inputs.add(name="entity", datatype="BYTES", shape=shape)
    asked.inputs.add(name="items", datatype="BYTES", shape=[1])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(ranking, asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == f"{over_rest.json()['error']} ({field}: {fault['problem']})"
    assert ranking.log.exposures == []


@pytest.mark.parametrize("length", ["", "abc", "-5", "+5", "1.0", "99999", "²", " ", "1_0", "9" * 5000])
def test_a_header_that_does_not_say_where_the_json_ends_is_named(http: TestClient, length: str) -> None:
    answer = http.post(INFER, content=b"{}", headers={LENGTH: length.encode()})
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["field"] == LENGTH


@pytest.mark.parametrize("value", [1.0, 1e99])
def test_more_tensors_than_a_request_can_use_are_refused_at_once(http: TestClient, value: float) -> None:
    context = [{"name": f"c{i}", "datatype": "FP64", "shape": [1], "data": [value]} for i in range(10_000)]
    answer = http.post(INFER, json={"inputs": [ENTITY, ITEMS, *context]})
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["fields"]] == ["inputs"]


def test_of_many_faults_the_first_are_told(http: TestClient) -> None:
    answer = http.post(INFER, json={"inputs": [ENTITY, texts("items", *[""] * 20_000)]})
    assert answer.status_code == 400
    assert len(answer.json()["fields"]) == 50


def test_bytes_that_belong_to_no_tensor_are_refused(http: TestClient) -> None:
    assert post(http, {"inputs": [ENTITY, ITEMS]}, b"xx").json()["fields"][0]["field"] == "body"


def test_elements_given_twice_are_refused(http: TestClient) -> None:
    content = framed(b"1")
    answer = post(http, {"inputs": [ENTITY | {"parameters": {"binary_data_size": len(content)}}, ITEMS]}, content)
    assert answer.json()["fields"][0]["field"] == "inputs[0].data"


def grpc_fault(toy: Toy, asked: Any) -> str:
    """The text of an INVALID_ARGUMENT."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(toy, asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert toy.log.exposures == []
    return str(refused.value.details())


def test_typed_contents_are_those_of_the_datatype(ranking: Toy) -> None:
    asked = messages.ModelInferRequest(model_name="toy")
    asked.inputs.add(name="entity", datatype="BYTES", shape=[1]).contents.fp64_contents.append(1.0)
    assert "inputs[0].contents: elements of BYTES are bytes_contents, not fp64_contents" in grpc_fault(ranking, asked)
    asked.inputs[0].datatype = "FP16"
    assert "inputs[0].contents: FP16 has none" in grpc_fault(ranking, asked)
    asked.inputs[0].datatype = "INT64"
    asked.inputs[0].ClearField("contents")
    assert "inputs[0].contents.int64_contents: 0 elements" in grpc_fault(ranking, asked)


def test_raw_contents_are_of_all_inputs_or_of_none(ranking: Toy) -> None:
    asked = messages.ModelInferRequest(model_name="toy", raw_input_contents=[framed(b"1")])
    for name in ("entity", "items"):
        asked.inputs.add(name=name, datatype="BYTES", shape=[1])
    assert "raw_input_contents: 1 of them for 2 inputs" in grpc_fault(ranking, asked)
    asked.raw_input_contents.append(framed(b"a"))
    asked.inputs[1].contents.bytes_contents.append(b"a")
    assert "inputs[1].contents: must be empty beside raw_input_contents" in grpc_fault(ranking, asked)
    assert "inputs: must be a list" in grpc_fault(ranking, messages.ModelInferRequest(model_name="toy"))


@given(st.data())
def test_what_numpy_wrote_is_read_as_it_was(data: st.DataObject) -> None:
    """Numbers of every datatype and shape, nested or flat, typed or raw."""
    datatype = data.draw(st.sampled_from(sorted(NUMBERS)))
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    layout = np.dtype(NUMBERS[datatype])
    finite = {"allow_nan": False, "allow_infinity": False} if layout.kind == "f" else {}
    given_array = data.draw(arrays.arrays(layout, shape, elements=arrays.from_dtype(layout, **finite)))
    of = tensors.spec("t", "n", datatype, list(shape))
    expected = given_array.reshape(-1).tolist()
    assert tensors.from_raw(of, given_array.tobytes()).values == expected
    assert tensors.from_json(of, given_array.reshape(-1).tolist()).values == expected
    if 0 not in shape[:-1]:
        assert tensors.from_json(of, given_array.tolist()).values == expected
    assert tensors.to_raw(of.datatype, expected) == given_array.tobytes()


@given(st.lists(st.text(max_size=5), max_size=4), st.integers(0, 30), st.binary(max_size=3))
def test_raw_texts_are_read_as_they_were_and_cut_ones_are_refused(words: list[str], cut: int, more: bytes) -> None:
    of = tensors.spec("t", "n", "BYTES", [len(words)])
    whole = tensors.to_raw(of.datatype, words)
    assert tensors.from_raw(of, whole).values == words
    for broken in (whole[: max(len(whole) - 1 - cut, 0)], whole + more):
        if broken != whole:
            with pytest.raises(BadRequest):
                tensors.from_raw(of, broken)


RECORDED = json.loads(Path(__file__).with_name("recorded_triton.json").read_text())


@pytest.mark.parametrize("which", ["http_binary", "http_json"])
def test_what_tritons_http_client_sends_is_answered_as_it_asked(http: TestClient, ranking: Toy, which: str) -> None:
    sent = RECORDED[which]
    headers = {LENGTH: str(sent["json_length"])} if sent["json_length"] else {}
    answer = http.post(INFER, content=bytes.fromhex(sent["body"]), headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[LENGTH])
    items, _ = json.loads(answer.content[:length])["outputs"]
    assert items.get("data") == (None if which == "http_binary" else ["c", "a"])
    assert answer.content.endswith(struct.pack("<2d", *ranking.log.scores[0].probabilities))


def test_what_tritons_grpc_client_sends_is_answered_as_it_asked(ranking: Toy) -> None:
    answer = call(ranking, messages.ModelInferRequest.FromString(bytes.fromhex(RECORDED["grpc"])))
    assert answer.raw_output_contents[0] == framed(b"c", b"a")
    assert answer.id == "t"
