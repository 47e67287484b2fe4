"""Redis as it is met: a server, one that a provider manages, a cluster of three. Real processes on loopback.

A test reads and empties them in ways that Serinus itself must not need: a managed one knows those by other names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.servers import RedisServer, free_port

KINDS = ("plain", "managed", "cluster")
# What managed ones refuse, and what the tests call it there.
_WITHHELD = ("SWAPDB", "SELECT", "FLUSHDB", "FLUSHALL", "CONFIG", "KEYS", "SCAN", "MOVE", "EVAL", "SCRIPT", "DBSIZE")
_SLOTS = 16_384


class RedisKind:
    """One of the kinds, running. `address` is that of clients."""

    def __init__(self, kind: str, servers: list[RedisServer]) -> None:
        self.kind, self.servers = kind, servers
        scheme = "redis+cluster" if kind == "cluster" else "redis"
        self.address = f"{scheme}://127.0.0.1:{servers[0].port}"
        self.nodes: list[Any] = [redis.Redis(port=server.port) for server in servers]

    def _run(self, node: Any, command: str, *arguments: str) -> Any:
        name = f"TEST.{command}" if self.kind == "managed" else command
        return node.execute_command(name, *arguments)

    def clear(self) -> None:
        """Deletes everything."""
        for node in self.nodes:
            self._run(node, "FLUSHALL")

    def keys(self) -> set[bytes]:
        """All of them, but for those that have expired and have not been cleared away yet."""
        return {key for node in self.nodes for key in self._run(node, "KEYS", "*")}

    def dump(self) -> dict[bytes, Any]:
        """Every key with its value."""
        return {key: _value(node, key) for node in self.nodes for key in self._run(node, "KEYS", "*")}

    def lasting(self) -> set[bytes]:
        """The keys that are not about to expire."""
        return {key for node in self.nodes for key in self._run(node, "KEYS", "*") if node.pttl(key) == -1}

    def settled(self, seconds: float = 30.0) -> set[bytes]:
        """The keys, once none of them is going to expire."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.lasting() == self.keys():
                return self.keys()
            time.sleep(0.05)
        raise TimeoutError("some keys do not expire")

    def calls(self) -> dict[str, int]:
        """How often each command was called, on all nodes, since `forget_calls`."""
        found: dict[str, int] = {}
        for node in self.nodes:
            for name, stats in node.info("commandstats").items():
                found[name] = found.get(name, 0) + stats["calls"]
        return found

    def forget_calls(self) -> None:
        """Counts anew."""
        for node in self.nodes:
            self._run(node, "CONFIG", "RESETSTAT")


def _value(node: Any, key: bytes) -> Any:
    read = {b"hash": node.hgetall, b"string": node.get, b"set": node.smembers}
    kind = node.type(key)
    return read[kind](key) if kind in read else node.lrange(key, 0, -1)


@contextmanager
def redis_kind(kind: str, folder: Path) -> Iterator[RedisKind]:
    """Started, and stopped at the end."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(3 if kind == "cluster" else 1)]
        servers = [_server(kind, folder / str(bus), bus) for bus in buses]
        for server in servers:
            stack.callback(server.stop)
            server.start()
        found = RedisKind(kind, servers)
        if kind == "cluster":
            _join(found.nodes, servers[0].port, buses[0])
        yield found


def _server(kind: str, folder: Path, bus: int) -> RedisServer:
    folder.mkdir()
    if kind == "managed":
        return RedisServer(folder, *(part for one in _WITHHELD for part in ("--rename-command", one, f"TEST.{one}")))
    if kind == "cluster":
        # A node that does not answer for a while, on a busy machine, is not to be taken for dead.
        clustered = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-port", str(bus))
        return RedisServer(folder, *clustered)
    return RedisServer(folder)


def _join(nodes: list[Any], port: int, bus: int) -> None:
    """As `redis-cli --cluster create` does: each node gets its share of the slots and meets the first."""
    share = _SLOTS // len(nodes) + 1
    for number, node in enumerate(nodes):
        first, last = number * share, min((number + 1) * share, _SLOTS) - 1
        node.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        node.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
    deadline = time.monotonic() + 60
    while not all(_complete(node, len(nodes)) for node in nodes):
        if time.monotonic() > deadline:
            raise TimeoutError("the nodes of the cluster do not find each other")
        time.sleep(0.05)


def _complete(node: Any, size: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_size"]) == size
