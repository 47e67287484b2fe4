"""The edge: sizes, depths and content types, and that what passes arrives unchanged."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serinus.serving.edge import Edge


class Inner:
    """An app that remembers the body and headers it got."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = scope["headers"]
        message = await receive()
        self.body = message["body"]
        assert message["more_body"] is False
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _send(body: bytes, headers: dict[str, str], *, parts: int = 1, **limits: int) -> tuple[int, Any, Inner]:
    inner, sent = Inner(), []
    size = max(len(body) // parts, 1)
    chunks = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    messages = [{"type": "http.request", "body": c, "more_body": i < len(chunks) - 1} for i, c in enumerate(chunks)]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "headers": raw}
    asyncio.run(Edge(inner, **limits)(scope, receive, send))
    answer = json.loads(sent[1]["body"]) if sent[1]["body"] else None
    return sent[0]["status"], answer, inner


@pytest.mark.parametrize(
    "given",
    ["application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"', "APPLICATION/JSON"],
)
def test_a_charset_changes_nothing(given: str) -> None:
    status, _, inner = _send(b'{"a": 1}', {"content-type": given})
    assert status == 200
    assert (b"content-type", b"application/json") in inner.headers
    assert inner.body == b'{"a": 1}'


def test_no_content_type_is_json() -> None:
    assert _send(b"{}", {})[2].headers == [(b"content-type", b"application/json")]


@pytest.mark.parametrize("given", ["text/plain", "application/json; charset=utf-16", "application/cloudevents+json"])
def test_other_content_types_are_refused_by_name(given: str) -> None:
    status, answer, inner = _send(b"{}", {"content-type": given})
    assert status == 415
    assert answer["fields"][0]["field"] == "content-type"
    assert inner.body is None


def test_a_compressed_body_is_refused_by_name() -> None:
    """Triton's client can send one."""
    status, answer, _ = _send(b"{}", {"content-encoding": "gzip"})
    assert (status, answer["fields"][0]["field"]) == (415, "content-encoding")
    assert _send(b"{}", {"content-encoding": "identity"})[0] == 200


def test_cloudevents_headers_do_not_reach_the_handler() -> None:
    _, _, inner = _send(b"{}", {"ce-specversion": "1.0", "ce-id": "1", "x-serinus-bucket": "007"})
    assert [name for name, _ in inner.headers] == [b"x-serinus-bucket", b"content-type"]


@pytest.mark.parametrize("parts", [1, 7])
def test_a_large_body_is_refused_before_it_is_whole(parts: int) -> None:
    assert _send(b"x" * 100, {}, parts=parts, most_bytes=99)[0] == 413
    assert _send(b"x" * 100, {}, parts=parts, most_bytes=100)[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 4 + b"]" * 4, 200),
        (b"[" * 5 + b"]" * 5, 400),
        (b'{"a":' * 5 + b"1" + b"}" * 5, 400),
        (b'["' + b"[" * 50 + b'"]', 200),
        (b'["\\"' + b"[" * 50 + b'"]', 200),
        (b"[]," * 50, 200),
        (b"]" * 50 + b"[" * 55, 400),
        (b'"' + b"[" * 50, 200),
    ],
)
def test_depth_counts_brackets_outside_of_strings(body: bytes, status: int) -> None:
    assert _send(body, {}, most_depth=4)[0] == status


def test_a_caller_that_went_away_is_not_answered() -> None:
    inner = Inner()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    asyncio.run(Edge(inner)({"type": "http", "method": "POST", "headers": []}, receive, send))
    assert inner.body is None
