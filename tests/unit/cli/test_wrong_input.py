"""Whatever a caller writes wrongly ends with exit code 2, in a line that says what is wrong; never with a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.core.names import ModelRef, ServiceRef
from serinus.wiring.adapters import deployer
from serinus.wiring.project import open_project

RENEWAL = ServiceRef("default", "renewal")


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


@pytest.fixture
def deployed(renewal_project: Path) -> Path:
    """A service whose wanted version is 1."""
    deployer(open_project()).want(RENEWAL, ModelRef("renewal", 1), "file:///b1")
    return renewal_project


@pytest.fixture
def refusing() -> Iterator[str]:
    """A collector that refuses every batch."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(422)
            self.end_headers()
            self.wfile.write(b'{"detail": "outcomes[0].name: missing"}')

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


WRONG = [
    ("nonsense",),
    ("rollout", "nonsense"),
    ("rollout", "get"),
    ("rollout", "get", "renewal", "--nonsense"),
    ("rollout", "watch", "renewal", "--interval", "0"),
    ("rollout", "watch", "renewal", "--interval", "nan"),
    ("rollout", "run", "renewal", "--interval", "inf"),
    ("rollout", "run", "renewal", "--interval", "1e300"),
    ("rollout", "plan", "renewal", "--effect", "log_loss"),
    ("rollout", "plan", "renewal", "--effect", "log_loss=much"),
    ("rollout", "plan", "renewal", "--effect", "log_loss=nan"),
    ("rollout", "plan", "renewal", "--effect", "log_loss=inf"),
    ("rollout", "plan", "renewal", "--effect", "log_loss=-1.5"),
    ("rollout", "plan", "renewal", "--effect", "nothing=0.1"),
    ("kpis", "renewal", "--as-of", "yesterday"),
    ("kpis", "renewal", "--as-of", "0001-01-01"),
    ("kpis", "renewal", "--as-of", "9999-12-31T23:59:59-12:00"),
    ("replay", "renewal", "--rate", "nan"),
    ("replay", "renewal", "--rate", "inf"),
    ("replay", "renewal", "--visits", "0"),
    ("replay", "renewal", "--name", "../elsewhere"),
    ("replay", "renewal", "--name", "a/b"),
    ("collect", "renewal", "--port", "99999"),
    ("collect", "renewal", "--port", "-1"),
    ("serve", "renewal", "--port", "99999"),
    ("serve", "renewal", "--grpc-port", "99999"),
    ("outcomes", "send", "nowhere.jsonl"),
    ("outcomes", "send", "."),
    ("outcomes", "send", "-", "--batch", "0"),
    ("outcomes", "send", "-", "--collector", "nonsense"),
    ("predict", "renewal", "--entity", "A000", "--endpoint", "nonsense"),
    ("predict", "renewal", "--entity", "A000", "--context", "amount"),
    ("predict", "renewal", "--entity", "A000", "--context", "amount=nan"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_input_ends_with_two(deployed: Path, arguments: tuple[str, ...]) -> None:
    found = run(*arguments, given='{"name": "renewed"}')
    assert found.exit_code == 2, (found.output, found.exception)
    assert isinstance(found.exception, SystemExit)
    assert found.stderr.strip()


@pytest.mark.parametrize(
    "given", [b"not json", b"[1]", b"3", b'{"a": 1', b"\xff\xfe\x00", b'{"id": "o-1"}\nnonsense', b'{"value": NaN}']
)
def test_a_file_of_outcomes_that_is_none_is_wrong_input(deployed: Path, given: bytes) -> None:
    (deployed / "outcomes.jsonl").write_bytes(given)
    found = run("outcomes", "send", str(deployed / "outcomes.jsonl"), "--collector", "http://127.0.0.1:1")
    assert found.exit_code == 2, (found.output, found.exception)


def test_outcomes_that_the_collector_refuses_are_wrong_input(deployed: Path, refusing: str) -> None:
    found = run("outcomes", "send", "-", "--collector", refusing, given='{"id": "o-1"}')
    assert found.exit_code == 2
    assert "outcomes[0].name: missing" in found.stderr


def test_what_is_rightly_named_and_missing_ends_with_four(deployed: Path) -> None:
    for arguments in (
        ("rollout", "get", "nothing"),
        ("kpis", "nothing"),
        ("trace", "renewal", "nothing"),
        ("rollout", "get", "renewal", "--rollout", "nothing"),
    ):
        assert run(*arguments).exit_code == 4, arguments


def test_the_version_is_told() -> None:
    from importlib.metadata import version

    found = run("--version")
    assert (found.exit_code, found.stdout) == (0, f"serinus {version('serinus')}\n")
