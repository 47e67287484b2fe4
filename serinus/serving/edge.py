"""The edge of an HTTP server: what never reaches a handler.

Invariant: a body that passes is at most `most_bytes` long and nested at most `most_depth` deep, and its content type is
one that KServe's handlers know by its plain name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_BYTES = 1 << 20
MOST_DEPTH = 32
_JSON, _BINARY = b"application/json", b"application/octet-stream"
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class _Refusal(Exception):
    status: int
    headline: str
    field: str
    problem: str


class Edge:
    """ASGI middleware: limits, content types, and no CloudEvents (their headers would change what KServe parses)."""

    def __init__(self, app: App, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH) -> None:
        self._app, self._most_bytes, self._most_depth = app, most_bytes, most_depth

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers 400, 413 or 415 itself; hands everything else on with the body already read."""
        if scope["type"] != "http" or scope["method"] not in _METHODS_WITH_BODY:
            await self._app(scope, receive, send)
            return
        try:
            scope["headers"] = _headers(scope["headers"])
            body = await self._body(receive)
        except _Refusal as refusal:
            await _refuse(refusal, send)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None when the caller went away."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            parts.append(part)
            size, more = size + len(part), bool(message.get("more_body", False))
            if size > self._most_bytes:
                raise _Refusal(413, "the body is too large", "body", f"at most {self._most_bytes} bytes")
        body = b"".join(parts)
        if _deeper(body, self._most_depth):
            raise _Refusal(400, "the body is nested too deeply", "body", f"at most {self._most_depth} levels")
        return body


def _headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without CloudEvents' headers, and with the content type reduced to its plain name."""
    kept = [(n, v) for n, v in given if n != b"content-type" and not n.startswith(b"ce-")]
    types = [value for name, value in given if name == b"content-type"]
    name, _, rest = (types[0] if types else _JSON).lower().partition(b";")
    charset = re.search(rb'charset\s*=\s*"?([^";\s]+)', rest)
    if name.strip() not in (_JSON, _BINARY):
        raise _Refusal(415, "the content type is not JSON", "content-type", f"send {_JSON.decode()}")
    encodings = [value for name, value in given if name == b"content-encoding" and value.lower() != b"identity"]
    if encodings:
        raise _Refusal(415, "the body is compressed", "content-encoding", "send it as it is")
    if charset and charset.group(1) not in (b"utf-8", b"utf8", b"us-ascii"):
        raise _Refusal(415, "the charset is not UTF-8", "content-type", "send UTF-8")
    return [*kept, (b"content-type", name.strip())]


def _deeper(body: bytes, most: int) -> bool:
    """Whether brackets outside of strings nest deeper than `most`."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    depth = 0
    for found in _BRACKETS.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            depth += 1
            if depth > most:
                return True
        elif mark in b"]}":
            depth -= 1
    return False


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return pending.pop() if pending else await receive()

    return read


async def _refuse(refusal: _Refusal, send: Send) -> None:
    document = {"error": refusal.headline, "fields": [{"field": refusal.field, "problem": refusal.problem}]}
    body = json.dumps(document).encode()
    # The rest of a body that is too large is not read, so the connection cannot be used again.
    headers = [(b"content-type", _JSON), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
