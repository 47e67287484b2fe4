"""Reads the live generation of an online store in Redis.

Invariant: the rows of one read are of one generation, which was live when it was read; a flip is seen by the next read.
Normally a read is one round trip.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice

from serinus.core.errors import Unavailable
from serinus.features.online import StoredRow, Wanted
from serinus.features.redis_client import Command, RedisClient
from serinus.features.redis_keys import GRACE_SECONDS, Keys, fields, generation_of

_ATTEMPTS = 10
_HINT = "requests are answered with defaults meanwhile"
_Asked = Mapping[bytes, Sequence[bytes]]  # fields by entity key
_Answers = Mapping[bytes, Iterator[bytes | None]]


class RedisStore:
    """`RawStore` over Redis."""

    def __init__(self, client: RedisClient, project: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._client, self._keys, self._now = client, Keys(project), now
        self._live: bytes | None = None  # the generation that was live when last seen

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """One command an entity: its hash is shared by its views. Raises `Unavailable`."""
        plans = [(one, fields(one.view.name, tuple(f.name for f in one.view.features))) for one in wanted]
        asked: dict[bytes, list[bytes]] = defaultdict(list)
        for one, names in plans:
            for key in one.keys:
                asked[key] += names
        answers: _Answers = {}
        if asked:
            with self._client.answering(f"the online store at {self._client.address} does not answer", _HINT):
                answers = self._read(asked)
        return [_rows(one, answers) for one in wanted]

    def _read(self, asked: _Asked) -> _Answers:
        """The cached generation is read together with the pointer, and another one when that has moved."""
        pointer: Command = ("GET", self._keys.live)
        live = self._pointed() if self._live is None else self._live
        for _ in range(_ATTEMPTS):
            suffix, began = self._keys.suffix(live), self._now()
            rows: list[Command] = [("HMGET", key + suffix, *names) for key, names in asked.items()]
            *found, last = self._client.ask([*rows, pointer])
            read, live = live, generation_of(last)
            # The nodes of a cluster know no order: a row may have been read after the pointer was. It was there, if
            # that was within the grace that rows are given; who took longer looks once more.
            if read == live and self._now() - began >= GRACE_SECONDS:
                live = self._pointed()
            if read == live:
                self._live = live
                return {key: iter(values) for key, values in zip(asked, found, strict=True)}
        raise Unavailable(f"the online store at {self._client.address} is loaded faster than it is read", hint=_HINT)

    def _pointed(self) -> bytes:
        return generation_of(self._client.ask([("GET", self._keys.live)])[0])


def _rows(one: Wanted, answers: _Answers) -> dict[bytes, StoredRow]:
    """Takes the view's share of each answer: the views of an entity follow each other there as they were asked."""
    found, names = {}, [feature.name for feature in one.view.features]
    for key in one.keys:
        *values, stamp = islice(answers[key], len(names) + 1)
        if stamp is not None:
            stored = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            found[key] = StoredRow(stored, float(_seconds(stamp)))
    return found


@lru_cache(maxsize=4096)  # rows share few times: they are midnights
def _seconds(stamp: bytes) -> int:
    """The seconds of a Timestamp; Feast writes no fractions here."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return int(Timestamp.FromString(stamp).seconds)
