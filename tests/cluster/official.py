"""KServe's own clients, as the tests use them.

Invariant: pytest's command line is not KServe's: it parses whatever command line there is while it is imported.
"""

from __future__ import annotations

import sys
from typing import Any

_arguments, sys.argv = sys.argv, sys.argv[:1]
try:
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig
finally:
    sys.argv = _arguments


def parameter(answer: Any, name: str) -> str:
    """Of an answer of either protocol: gRPC's are wrapped."""
    found = answer.parameters[name]
    return str(getattr(found, "string_param", found))


__all__ = ["InferInput", "InferRequest", "InferenceGRPCClient", "InferenceRESTClient", "RESTConfig", "parameter"]
