"""The data plane as a KServe model: whatever protocol a call comes by, it is one `Instance` in and one `Answer` out.

Invariant: a call that is refused is counted once, and leaves no exposure.
"""

from __future__ import annotations

from typing import Any

from kserve import Model

from serinus.serving.exchange import Exchange
from serinus.serving.plane import DataPlane
from serinus.serving.request import BadRequest, Caller


class PredictorModel(Model):  # type: ignore[misc]  # kserve has no types
    """Named after the service; ready once the bundle reproduced its golden rows."""

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(plane.identity.service.name, return_response_headers=True)
        self._plane = plane

    def load(self) -> bool:
        """Raises `BundleError` unless the golden rows come out."""
        self._plane.bundle.require_parity()
        self.ready = True
        return True

    def validate(self, payload: Any) -> Any:
        """Left to the exchange, which names the field."""
        return payload

    def predict(self, payload: Exchange, headers: dict[str, str], response_headers: dict[str, str]) -> Any:
        """One request. Synchronous on the event loop: a request is a few milliseconds of one core."""
        try:
            asked = payload.read([one["name"] for one in self.get_output_types()])
        except BadRequest:
            self._plane.refused()
            raise
        answer = self._plane.answer(asked, Caller.of(headers))
        response_headers.update({"x-request-id": _header(answer.request_id), "x-serinus-revision": answer.revision})
        return payload.write(answer)

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


def _header(text: str) -> str:
    """HTTP headers hold Latin-1."""
    return text.encode("ascii", "backslashreplace").decode()
