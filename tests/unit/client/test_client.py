"""The client: the bucket header, retries under one request id, and faults that say what happened."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serinus.client import Client, Refused, Unreachable, bucket_of

ANSWER = {"predictions": [{"request_id": "r", "items": []}]}


class Server:
    """Answers from a script of (status, body) or "drop"; remembers what was asked."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                names = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.path, names, json.loads(body)))
                step = outer.script.pop(0) if outer.script else (200, ANSWER)
                if step == "drop":
                    self.close_connection = True
                    return
                text = json.dumps(step[1]).encode()
                self.send_response(step[0])
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, service="toy", salt="ab", pause=lambda seconds: None) as made:
        yield made


def test_a_request_carries_its_bucket_and_everything_asked(server: Server, client: Client) -> None:
    client.predict("1", ["a", "b"], unit="1#2", context={"amount": 3.0}, request_id="r1", as_of="2011-10-03T10:00")
    path, headers, body = server.asked[0]
    assert path == "/v1/models/toy:predict"
    assert headers["x-serinus-bucket"] == f"{bucket_of('ab', '1#2'):03d}"
    assert body == {
        "instances": [
            {"entity": "1", "unit": "1#2", "items": ["a", "b"], "context": {"amount": 3.0}, "request_id": "r1",
             "as_of": "2011-10-03T10:00"}
        ]
    }  # fmt: skip
    assert not {"x-serinus-arm", "x-serinus-route"} & headers.keys()


def test_the_entity_is_the_unit_and_an_arm_can_be_forced(server: Server, client: Client) -> None:
    client.predict("1", arm="canary", route="toy-v2.3")
    _, headers, body = server.asked[0]
    assert headers["x-serinus-bucket"] == f"{bucket_of('ab', '1'):03d}"
    assert headers["x-serinus-arm"] == "canary"
    assert headers["x-serinus-route"] == "toy-v2.3"
    assert set(body["instances"][0]) == {"entity", "request_id"}


@pytest.mark.parametrize("trouble", ["drop", (503, {}), (502, {}), (429, {})])
def test_a_retry_repeats_the_request_id(server: Server, client: Client, trouble: object) -> None:
    server.script = [trouble, trouble]
    assert client.predict("1")["request_id"] == "r"
    ids = {body["instances"][0]["request_id"] for _, _, body in server.asked}
    assert len(server.asked) == 3
    assert len(ids) == 1


def test_refusals_are_not_retried_and_carry_the_reason(server: Server, client: Client) -> None:
    server.script = [(400, {"error": "no", "fields": []})]
    with pytest.raises(Refused, match="400") as refused:
        client.predict("1")
    assert (refused.value.status, json.loads(refused.value.body)["error"]) == (400, "no")
    assert len(server.asked) == 1


def test_no_answer_after_all_tries_is_unreachable(server: Server, client: Client) -> None:
    server.script = ["drop"] * 3
    with pytest.raises(Unreachable, match="tries: 3"):
        client.predict("1")
    assert client.predict("1")["request_id"] == "r"


def test_one_connection_serves_many_requests(server: Server, client: Client) -> None:
    for _ in range(5):
        client.predict("1")
    assert server.connections == 1


def test_outcomes_are_sent_as_they_are(server: Server, client: Client) -> None:
    server.script = [(200, {"accepted": 1, "duplicates": 0})]
    outcome = {"id": "o1", "name": "bought", "request_id": "r1", "item": "a", "value": 2.5, "as_of": 1.0}
    assert client.send_outcomes([outcome]) == 1
    assert server.asked[0][0] == "/v1/outcomes"
    assert server.asked[0][2] == {"outcomes": [outcome]}


@pytest.mark.parametrize("endpoint", ["localhost:8080", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Client(endpoint)
