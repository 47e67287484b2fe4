"""Writes recorded_triton.json anew: what Triton's own clients send.

By hand, in an environment of its own: `pip install 'tritonclient[grpc,http]==2.73.0'`. The tests do not
load it: its messages have the names of KServe's, and protobuf takes a name once a process.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tritonclient import grpc, http
from tritonclient.grpc._utils import _get_inference_request as grpc_request
from tritonclient.http._utils import _get_inference_request as http_request

VALUES = {"entity": ["1"], "items": ["a", "c"]}
REST = {"sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0, "timeout": None}


def main() -> None:
    """One request over gRPC, one over HTTP as bytes and one as JSON."""
    inputs = [grpc.InferInput(name, [len(values)], "BYTES") for name, values in VALUES.items()]
    for one, values in zip(inputs, VALUES.values(), strict=True):
        one.set_data_from_numpy(np.array(values, dtype=np.object_))
    asked = grpc_request(model_name="toy", inputs=inputs, model_version="", request_id="t", outputs=None, **REST,
                         parameters=None)  # fmt: skip
    found = {"client": f"tritonclient {version('tritonclient')}", "grpc": asked.SerializeToString().hex()}
    for name, binary in (("http_binary", True), ("http_json", False)):
        sent = [http.InferInput(one, [len(values)], "BYTES") for one, values in VALUES.items()]
        for one, values in zip(sent, VALUES.values(), strict=True):
            one.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary)
        outputs = [http.InferRequestedOutput("items", binary_data=binary), http.InferRequestedOutput("probabilities")]
        body, length = http_request(inputs=sent, request_id="t", outputs=outputs, custom_parameters=None, **REST)
        found[name] = {"body": body.hex(), "json_length": length}
    Path(__file__).with_name("recorded_triton.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
