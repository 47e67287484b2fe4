"""The data plane as a KServe model: V1 and V2, REST and gRPC, become one `Instance` and come from one `Answer`.

Invariant: a malformed request of any protocol is a `BadRequest` that names the field.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane as KServeDataPlane

from serinus.serving.answer import Answer
from serinus.serving.plane import DataPlane
from serinus.serving.request import BadRequest, Caller, Instance, parse_instance, parse_v1

_SINGLE = ("entity", "unit", "request_id", "as_of")
_DECODING_FAULTS = (InvalidInput, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class PredictorModel(Model):  # type: ignore[misc]  # kserve has no types
    """Named after the service; ready once the bundle reproduced its golden rows."""

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(plane.identity.service, return_response_headers=True)
        self._plane = plane

    def load(self) -> bool:
        """Raises `BundleError` unless the golden rows come out."""
        self._plane.bundle.require_parity()
        self.ready = True
        return True

    def validate(self, payload: Any) -> Any:
        """Left to the parsers, which name the field."""
        return payload

    def predict(self, payload: Any, headers: dict[str, str], response_headers: dict[str, str]) -> Any:
        """One request. Synchronous on the event loop: a request is a few milliseconds of one core."""
        caller, v2 = Caller.of(headers), isinstance(payload, InferRequest)
        try:
            asked = _instance_v2(payload) if v2 else parse_v1(payload)
        except BadRequest:
            self._plane.refused()
            raise
        answer = self._plane.answer(asked, caller)
        response_headers.update({"x-request-id": _header(answer.request_id), "x-serinus-revision": answer.revision})
        return self._v2(answer) if v2 else {"predictions": [answer.as_dict()]}

    def get_input_types(self) -> list[dict[str, Any]]:
        """Tensors of the V2 protocol."""
        manifest = self._plane.bundle.manifest
        items = [("items", [-1])] if manifest.item else []
        tensors = [("entity", [1]), ("unit", [1]), *items, ("as_of", [1])]
        named = [{"name": name, "datatype": "BYTES", "shape": shape} for name, shape in tensors]
        return named + [{"name": name, "datatype": "FP64", "shape": [1]} for name in manifest.request.context]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Items in the order to show (kind ranking) and their probabilities."""
        items = [{"name": "items", "datatype": "BYTES", "shape": [-1]}] if self._plane.bundle.manifest.item else []
        return [*items, {"name": "probabilities", "datatype": "FP64", "shape": [-1]}]

    def _v2(self, answer: Answer) -> InferResponse:
        outputs = [_output("items", "BYTES", list(answer.items))] if answer.items else []
        outputs.append(_output("probabilities", "FP64", list(answer.probabilities)))
        return InferResponse(
            response_id=answer.request_id,
            model_name=self.name,
            model_version=answer.version,
            infer_outputs=outputs,
            parameters={"revision": answer.revision, "flags": json.dumps(answer.flags.as_dict())},
        )


class StrictDecoding(KServeDataPlane):  # type: ignore[misc]
    """KServe's data plane whose decoding answers malformed bodies with the field at fault."""

    def decode(
        self,
        body: Any,
        headers: Any,
        protocol_version: str = "v1",
        model_name: str | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """V1 as plain JSON; V2 as KServe does it."""
        if protocol_version == "v1":
            try:
                return orjson.loads(body), {}
            except orjson.JSONDecodeError as fault:
                raise BadRequest("the body is not JSON", {"body": str(fault)}) from fault
        try:
            found, attributes = super().decode(body, headers, protocol_version, model_name)
        except _DECODING_FAULTS as fault:
            raise BadRequest("the body is not a V2 request", {"body": _told(fault)}) from fault
        return found, attributes


def _instance_v2(request: InferRequest) -> Instance:
    """Tensors by name; any other name than those of `Instance` is a value of the context."""
    raw: dict[str, Any] = {"request_id": request.id} if request.id else {}
    context: dict[str, Any] = {}
    for position, tensor in enumerate(request.inputs):
        name, values = tensor.name, _values(tensor, f"inputs[{position}]")
        if name == "items":
            raw["items"] = values
        elif len(values) != 1:
            raise BadRequest("the request is not valid", {f"inputs[{position}]": "must hold exactly one value"})
        elif name in _SINGLE:
            raw[name] = values[0]
        else:
            context[name] = values[0]
    return parse_instance(raw | ({"context": context} if context else {}), "inputs")


def _values(tensor: InferInput, path: str) -> list[Any]:
    """The elements, flattened; bytes as text."""
    try:
        if isinstance(tensor.data, list) and tensor.datatype == "BYTES":
            found = np.array(tensor.data, dtype=object).reshape(-1).tolist()
        else:
            found = tensor.as_numpy().reshape(-1).tolist()
        return [one.decode() if isinstance(one, bytes) else one for one in found]
    except _DECODING_FAULTS as fault:
        raise BadRequest("the request is not valid", {path: _told(fault)}) from fault


def _told(fault: Exception) -> str:
    return f"cannot be read as what it says to be ({str(fault)[:200]})"


def _output(name: str, datatype: str, values: list[Any]) -> InferOutput:
    return InferOutput(name=name, shape=[len(values)], datatype=datatype, data=values)


def _header(text: str) -> str:
    """HTTP headers hold Latin-1."""
    return text.encode("ascii", "backslashreplace").decode()
