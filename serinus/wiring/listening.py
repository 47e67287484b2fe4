"""The addresses that a server is going to listen on, taken before it loads or says anything.

Invariant: a port that somebody listens on is told as a `Conflict` in one line, on whichever of the addresses that the
host's name stands for; nobody shares a port. What binds decides, no look beforehand: two that start at once both get
past `reserved`, and only one past `listening`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from serinus.core.errors import Conflict, SerinusError, UsageError

_BACKLOG = 2048
# An address of a family that this machine does not have: `localhost` often stands for ::1 as well.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True)
class Reserved:
    """Bound sockets, one for each address of `host`; nobody is answered before `listening`."""

    what: str
    host: str
    port: int
    sockets: tuple[socket.socket, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """As gRPC takes them: `127.0.0.1:8081`, `[::1]:8081`."""
        named = ((one.family, one.getsockname()) for one in self.sockets)
        return tuple(f"[{at[0]}]:{at[1]}" if family == socket.AF_INET6 else f"{at[0]}:{at[1]}" for family, at in named)

    def listening(self) -> list[socket.socket]:
        """Callers may connect from here on. Raises `Conflict` when another process was faster."""
        for one in self.sockets:
            try:
                one.listen(_BACKLOG)
            except OSError as fault:
                raise _told(fault, self.what, self.host, self.port) from fault
        return list(self.sockets)


@contextmanager
def reserved(what: str, host: str, port: int) -> Iterator[Reserved]:
    """Ports of all addresses of a host. `what` names the port in faults: `HTTP`, `gRPC`.

    Raises `Conflict` when one is taken, `UsageError` for a host that is not this machine's or a port that needs rights.
    """
    with ExitStack() as stack:
        bound, fault = [], OSError(errno.EADDRNOTAVAIL, "no address")
        for family, address in _resolved(what, host, port):
            try:
                bound.append(stack.enter_context(_bound(family, address)))
            except OSError as found:
                fault = found
                if found.errno not in _NOT_HERE:
                    break
        if not bound or fault.errno not in _NOT_HERE:
            raise _told(fault, what, host, port) from fault
        yield Reserved(what, host, port, tuple(bound))


def _resolved(what: str, host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as fault:
        raise UsageError(f"{what}: {host} is no address of this machine ({fault})") from fault
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As every server does, so that it can start anew while connections of its predecessor are being forgotten.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _told(fault: OSError, what: str, host: str, port: int) -> SerinusError:
    where = f"{what} port {port} of {host or 'this machine'}"
    if fault.errno == errno.EADDRINUSE:
        return Conflict(f"{where} is taken: stop what listens there, or choose another port")
    if fault.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where} needs rights that this process does not have: choose one from 1024 on")
    return UsageError(f"{where} cannot be listened on: {fault.strerror}")
