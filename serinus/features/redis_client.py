"""Redis as the online store needs it, a server or a cluster: the one module of the features that imports redis.

Invariant: a call waits for a node once, and sends nothing twice but to the node that a cluster names; what keeps Redis
from answering is `Unavailable`. Only what every managed Redis allows is asked of it: keys, never databases, settings or
lists of all keys, and no command has keys of two slots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import AskError, RedisClusterException, TryAgainError
from redis.retry import Retry

from serinus.core.addresses import parts_of, scheme_of, shown
from serinus.core.errors import Unavailable

CLUSTER = "+cluster"
# The name of a command, a key, and the rest: the key says which node of a cluster is asked.
Command = tuple[str | bytes | int, ...]
_REDIRECTED = (AskError, TryAgainError)  # MovedError is an AskError
_FAULTS = (redis.RedisError, RedisClusterException)


class TakenOver(Exception):
    """What a transaction was to rest on holds no longer."""


class RedisClient:
    """`address` is redis://host:port/db, redis+cluster://host:port of any node, or the same over TLS (rediss).

    Connects with the first call, fails fast, and connects anew with the next one. Raises `Unavailable` for an address
    that is none.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.address, (scheme, rest) = shown(address), parts_of(address)
        self._clustered = scheme.endswith(CLUSTER)
        self._url = f"{scheme.removesuffix(CLUSTER)}://{rest}"
        self._options: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        try:
            self._server: Any = redis.Redis.from_url(self._url, **self._options)
            pool = self._server.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # an unknown option is told now, not by the first call
        except (ValueError, TypeError) as fault:
            raise Unavailable(f"{self.address} is not an address of Redis", cause=str(fault)) from fault
        self._known: Any = None  # the cluster, with where its slots are
        self._moved = False  # they may not be there any more
        self._discovering = Lock()

    @property
    def _cluster(self) -> Any:  # noqa: ANN401 - redis-py has no useful types
        """Asked anew where its slots are when the last call met something else.

        That can take a timeout a node: one thread asks, and others go on with what is known.
        """
        wait = self._options["socket_timeout"] if self._known is None else 0
        if (self._known is None or self._moved) and self._discovering.acquire(timeout=wait):
            try:
                self._discover()
            finally:
                self._discovering.release()
        if self._known is None:
            raise redis.TimeoutError("another call has been looking for the nodes of the cluster for too long")
        return self._known

    def _discover(self) -> None:
        if self._known is None:
            self._known = RedisCluster.from_url(self._url, **self._options)
        elif self._moved:
            self._known.nodes_manager.initialize()
        self._moved = False

    @contextmanager
    def answering(self, headline: str, hint: str) -> Iterator[None]:
        """Turns the faults of Redis into `Unavailable`."""
        try:
            yield
        except _FAULTS as fault:
            self._moved = True
            if isinstance(fault, AskError) and not self._clustered:
                hint = f"it is a node of a cluster, whose address begins with {scheme_of(self.address)}{CLUSTER}://"
            raise Unavailable(headline, cause=f"{type(fault).__name__}: {fault}", hint=hint) from fault

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers in order, after one round trip: every node is sent its commands before any answer is read.

        A server executes them in order; the nodes of a cluster know no order between them.
        """
        answers: list[Any] = [None] * len(commands)
        with ExitStack() as stack:
            waiting = []
            for pool, places in self._by_node(commands).items():
                connection = stack.enter_context(_borrowed(pool))
                connection.send_packed_command(connection.pack_commands([commands[place] for place in places]))
                waiting.append((connection, places))
            for connection, places in waiting:
                for place in places:
                    answers[place] = _answer(connection)
        return [self._settled(*pair) for pair in zip(commands, answers, strict=True)]

    @contextmanager
    def transaction(self, key: bytes, value: bytes) -> Iterator[Any]:
        """Commands of one slot, done together if `key` holds `value` then. Raises `TakenOver` if it does not."""
        with self._transactions() as pipe:
            pipe.watch(key)
            if pipe.get(key) != value:
                raise TakenOver
            pipe.multi()
            yield pipe
            try:
                pipe.execute()
            except redis.WatchError as fault:
                raise TakenOver from fault

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """Commands of one slot, done together; their answers in order."""
        try:
            return self._together(commands)
        except AskError:  # nothing was done: the slot is elsewhere by now
            self._moved = True
            return self._together(commands)

    def _together(self, commands: Sequence[Command]) -> list[Any]:
        with self._transactions() as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = pipe.execute()
            return answers

    def _transactions(self) -> Any:  # noqa: ANN401 - redis-py has no useful types
        return (self._cluster if self._clustered else self._server).pipeline(transaction=True)

    def _by_node(self, commands: Sequence[Command]) -> dict[Any, list[int]]:
        """The places of the commands, by the connections to whom they are sent."""
        if not self._clustered:
            return {self._server.connection_pool: list(range(len(commands)))}
        cluster, found = self._cluster, defaultdict(list)
        for place, command in enumerate(commands):
            node = cluster.get_node_from_key(command[1])
            found[cluster.get_redis_connection(node).connection_pool].append(place)
        return found

    def _settled(self, command: Command, answer: Any) -> Any:  # noqa: ANN401 - redis-py has no useful types
        """An answer; where a cluster is just moving the key elsewhere, that of the node which has it."""
        if isinstance(answer, _REDIRECTED) and self._clustered:
            self._moved = True  # for the next call; this one is led by the answers
            return self._known.execute_command(*command)
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def _borrowed(pool: Any) -> Iterator[Any]:  # noqa: ANN401 - redis-py has no useful types
    """A connection for a while. After a fault it is closed: an answer that comes late must not be the next one's."""
    connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _answer(connection: Any) -> Any:  # noqa: ANN401 - redis-py has no useful types
    try:
        return connection.read_response()
    except redis.ResponseError as fault:  # of this command alone: the answers of others follow
        return fault
