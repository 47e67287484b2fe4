"""A port that somebody listens on: refused in one line and with code 6 before anything is said, loaded or written."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from serinus.core.names import ServiceRef
from serinus.core.rollout.evidence import Readiness
from serinus.rollout.local_arms import LocalArms
from serinus.wiring.settings import CollectSettings, ServeSettings
from tests.servers import free_port
from tests.unit.rollout.fakes import ONE

TOY = ServiceRef("default", "toy")

pytestmark = pytest.mark.slow
STUB = Path(__file__).with_name("stub_arm.py")


@contextmanager
def listener(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Somebody else's port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        taken.listen()
        yield int(taken.getsockname()[1])


@contextmanager
def shared_listener() -> Iterator[int]:
    """A gRPC server as others start it: its port can be shared."""
    server = grpc.server(None)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def predictor(folder: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    """One of a bundle that does not exist: a port is looked at before."""
    settings = ServeSettings(
        service=TOY, salt="ab", version=1, revision="toy-v1-abcdef", storage_uri=str(folder / "none"),
        online=str(folder / "none.db"), events=str(folder / "events"),
        **{"http_port": free_port(), "grpc_port": 0} | changes,
    )  # fmt: skip
    return ended("serinus.wiring.serve", settings.model_dump_json())


def collector(folder: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    settings = CollectSettings(service=TOY, folder=str(folder / "events"), **changes)  # type: ignore[arg-type]
    return ended("serinus.wiring.collect", settings.model_dump_json())


def ended(module: str, settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, settings], capture_output=True, text=True, timeout=300, check=False
    )


def refused(found: subprocess.CompletedProcess[str], what: str, port: int, folder: Path) -> None:
    assert found.returncode == 6, found.stderr
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert f"{what} port {port} of " in line
    assert "is taken" in line
    assert list(folder.iterdir()) == []


def test_a_taken_http_port_is_refused(tmp_path: Path) -> None:
    with listener() as port:
        refused(predictor(tmp_path, http_port=port), "HTTP", port, tmp_path)
        refused(collector(tmp_path, port=port), "HTTP", port, tmp_path)


def test_a_taken_grpc_port_is_refused_though_grpc_would_share_it(tmp_path: Path) -> None:
    with shared_listener() as port:
        refused(predictor(tmp_path, grpc_port=port), "gRPC", port, tmp_path)


@pytest.mark.parametrize(
    ("mine", "theirs"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("localhost", "127.0.0.1")]
)
def test_a_port_is_taken_by_whoever_listens_on_any_of_its_addresses(tmp_path: Path, mine: str, theirs: str) -> None:
    with listener(theirs) as port:
        refused(collector(tmp_path, host=mine, port=port), "HTTP", port, tmp_path)


def test_a_foreign_predictor_on_the_port_of_an_arm_is_not_the_arm(tmp_path: Path) -> None:
    """It would answer for the same service, with another model."""
    stub = [sys.executable, "-I", "-S", str(STUB)]
    arms = LocalArms(tmp_path, "toy", lambda one, port: [*stub, str(port), "mute", one.name], now=lambda: 0.0)
    with ExitStack() as stack:
        stack.callback(arms.stop, ONE.name)
        arms.ensure(ONE)
        port = json.loads((tmp_path / f"{ONE.name}.json").read_text())["port"]
        foreign = subprocess.Popen([*stub, str(port)], stdout=subprocess.DEVNULL)
        stack.callback(foreign.wait)
        stack.callback(foreign.kill)
        while not arms._answers(port):
            assert foreign.poll() is None
        assert arms.condition(ONE).readiness is Readiness.STARTING
