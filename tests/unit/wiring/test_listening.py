"""Taking a port: what binds decides, on every address of a host, and every fault is one line with a code."""

from __future__ import annotations

import errno
import socket

import pytest

from serinus.core.errors import Conflict, UsageError
from serinus.core.names import ServiceRef
from serinus.wiring import listening
from serinus.wiring.listening import reserved
from serinus.wiring.settings import CollectSettings, ServeSettings
from tests.servers import free_port

TOY = ServiceRef("default", "toy")


def test_nobody_is_answered_before_it_listens() -> None:
    with reserved("HTTP", "127.0.0.1", free_port()) as http, socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", http.port)) == errno.ECONNREFUSED
        (listener,) = http.listening()
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert http.addresses == (f"127.0.0.1:{http.port}",)


def test_of_two_that_start_at_once_one_listens() -> None:
    """Both got past a look at the port."""
    port = free_port()
    with reserved("HTTP", "127.0.0.1", port) as first, reserved("HTTP", "127.0.0.1", port) as second:
        first.listening()
        with pytest.raises(Conflict, match=f"HTTP port {port} of 127.0.0.1 is taken"):
            second.listening()


def test_one_address_of_a_name_that_is_taken_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two servers would share `localhost`, one by each family. An address that this machine lacks is none."""
    port = free_port()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2", "192.0.2.1")
    ]
    monkeypatch.setattr(listening.socket, "getaddrinfo", lambda *_, **__: found)
    with reserved("HTTP", "here", port) as mine:
        assert mine.addresses == (f"127.0.0.1:{port}", f"127.0.0.2:{port}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", port))
        taken.listen()
        with pytest.raises(Conflict), reserved("HTTP", "here", port):
            pass
    with reserved("HTTP", "here", port):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 70, "a..b"])
def test_a_host_that_is_not_this_machine_is_wrong_input(host: str) -> None:
    with pytest.raises(UsageError, match="HTTP"), reserved("HTTP", host, free_port()):
        pass


def test_a_port_that_needs_rights_is_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(listening, "_bound", refuse)
    with pytest.raises(UsageError, match="from 1024 on"), reserved("gRPC", "127.0.0.1", 80):
        pass


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_out_of_range_is_no_setting(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        CollectSettings(service=TOY, folder="f", port=port)
    with pytest.raises(ValueError, match="must differ"):
        ServeSettings(service=TOY, salt="a", version=1, revision="r", storage_uri="u", online="o", events="e",
                      http_port=80, grpc_port=80)  # fmt: skip
