"""Asks a predictor and reports outcomes over HTTP, with the header that keeps a unit on one arm.

Invariant: a retry repeats the same request id, and evidence counts a request id once an arm; so retrying is safe, also
when the first answer was lost on its way back.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from serinus.client.bucket import ARM_HEADER, ROUTE_HEADER, bucket_header
from serinus.client.written import written_id

_RETRIED = (429, 502, 503, 504)
_JOINED_BY = ("request_id", "unit", "item")
Pause = Callable[[float], None]
Id = str | int


class Refused(Exception):
    """The server answered, and refused: `status` and the `body` it gave as its reason."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body[:500]}")
        self.status, self.body = status, body


class Unreachable(Exception):
    """No answer after all tries: nobody listens, the connection broke, or the server is overloaded."""


class Client:
    """One keep-alive connection to one address; use one client a thread.

    `service` is the model's name in the path, `salt` the service's constant (`serinus bucket` shows it).
    """

    def __init__(
        self,
        endpoint: str,
        *,
        service: str = "",
        salt: str = "",
        timeout: float = 10.0,
        tries: int = 3,
        pause: Pause = time.sleep,
    ) -> None:
        self._url, self._service, self._salt = _split(endpoint), service, salt
        self._timeout, self._tries, self._pause = timeout, max(tries, 1), pause
        self._connection: HTTPConnection | None = None

    def predict(
        self,
        entity: Id,
        items: Sequence[Id] = (),
        *,
        unit: Id = "",
        context: Mapping[str, object] | None = None,
        request_id: str = "",
        as_of: str = "",
        arm: str = "",
        route: str = "",
    ) -> dict[str, Any]:
        """The ranked items (or the probability) for an entity. `unit` is who is assigned; the entity when not given.

        Ids are text or whole numbers, in their written form (`serinus.client.written`). `arm` forces an arm, for tests:
        such requests are answered and never judged. `route`: the stamp of the route that led here. Raises `Refused`,
        `Unreachable`, and `ValueError` for what is no id or no JSON.
        """
        entity, unit = written_id(entity), "" if unit == "" else written_id(unit)
        instance: dict[str, Any] = {"entity": entity, "request_id": request_id or uuid.uuid4().hex}
        instance |= {"items": [written_id(item) for item in items]} if items else {}
        instance |= {"context": dict(context)} if context else {}
        instance |= {key: value for key, value in (("unit", unit), ("as_of", as_of)) if value}
        headers = bucket_header(self._salt, unit or entity) if self._salt else {}
        headers |= {name: value for name, value in ((ARM_HEADER, arm), (ROUTE_HEADER, route)) if value}
        answer = self._post(f"/v1/models/{self._service}:predict", {"instances": [instance]}, headers)
        prediction: dict[str, Any] = answer["predictions"][0]
        return prediction

    def send_outcomes(self, outcomes: Sequence[Mapping[str, object]]) -> int:
        """Reports outcomes to a collector; the number it had not seen. Sending again is harmless.

        Each has `id`, `name`, `as_of` and one of `request_id` and `unit`; `item` and `value` where they apply. Raises
        `Refused`, `Unreachable`, and `ValueError` for what is no id.
        """
        answer = self._post("/v1/outcomes", {"outcomes": [_joined(one) for one in outcomes]}, {})
        return int(answer["accepted"])

    def close(self) -> None:
        """Closes the connection; the next call opens one anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, path: str, document: object, headers: Mapping[str, str]) -> dict[str, Any]:
        body = json.dumps(document, allow_nan=False).encode()
        fault = ""
        for attempt in range(self._tries):
            if attempt:
                self._pause(0.1 * 2.0**attempt)
            try:
                status, text = self._once(path, body, {"content-type": "application/json", **headers})
            except (OSError, HTTPException) as broken:
                self.close()
                fault = f"{type(broken).__name__}: {broken}"
                continue
            if status < 300:
                answer: dict[str, Any] = json.loads(text)
                return answer
            if status not in _RETRIED:
                raise Refused(status, text)
            fault = f"HTTP {status}: {text[:200]}"
        raise Unreachable(f"{self._url.geturl()} did not answer, tries: {self._tries} ({fault})")

    def _once(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._url.path.rstrip("/") + path, body, dict(headers))
        answer: HTTPResponse = self._connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")

    def _connect(self) -> HTTPConnection:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=self._timeout)


def _joined(outcome: Mapping[str, object]) -> dict[str, object]:
    """The outcome with the ids by which it finds its request in their written form."""
    return {
        name: written_id(value) if name in _JOINED_BY and value is not None else value
        for name, value in outcome.items()
    }


def _split(endpoint: str) -> SplitResult:
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{endpoint} is not an address; write http://host:port")
    return url
