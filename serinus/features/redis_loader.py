"""Loads a day's snapshot into Redis as a new generation, then points readers at it.

Invariant: rows of a generation are never changed once it is live, and go only when a grace has passed since another one
is; one write of the pointer makes a load live. Every key is listed before it is written, so whatever a load leaves
behind, where it was killed or taken over, the next one finds. No key is touched that is not listed so.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from serinus.core.errors import Conflict
from serinus.features.redis_client import RedisClient, TakenOver
from serinus.features.redis_keys import GRACE_SECONDS, Keys, fields, generation_of

CHUNK = 2_000
_Hashes = Mapping[bytes, Mapping[bytes, bytes]]  # fields and values by entity key


def new_generation() -> bytes:
    """A name that no other generation has."""
    return uuid.uuid4().hex[:12].encode()


class RedisLoader:
    """`Loader` into Redis. Of two loads at once the one that began last ends; the other is told."""

    def __init__(
        self,
        client: RedisClient,
        project: str,
        *,
        chunk: int = CHUNK,
        new: Callable[[], bytes] = new_generation,
    ) -> None:
        self._client, self._keys, self._chunk, self._new = client, Keys(project), chunk, new

    def load(self, snapshot: Path) -> None:
        """Interrupted anywhere, loading again comes to the same end.

        Raises `Unavailable`, and `Conflict` when another load took over.
        """
        where = self._client.address
        try:
            with self._client.answering(f"the online store at {where} cannot be loaded", "run this again"):
                self._load(snapshot)
        except TakenOver as fault:
            hint = "run this again when the other one has ended"
            raise Conflict(f"another load of {where} took over", hint=hint) from fault

    def _load(self, snapshot: Path) -> None:
        mark = f"{snapshot.parent.name}/{snapshot.name}".encode()
        generation = self._new()
        before, known = self._begin(generation)
        # Of loads that did not end. The list of what they wrote is kept until the end: they may be writing still.
        dead = known - {generation_of(before)}
        self._expire(dead)
        done = before.endswith(b" " + mark) and self._whole(generation_of(before))
        pointer = before if done else self._write(snapshot, generation, mark)
        with self._client.transaction(self._keys.loading, generation) as pipe:
            pipe.set(self._keys.live, pointer)
            pipe.delete(self._keys.loading)
        self._forget((known | {generation}) - {generation_of(pointer)})

    def _begin(self, generation: bytes) -> tuple[bytes, set[bytes]]:
        """Takes over from any other load. The pointer, and the generations that may have rows, before this one."""
        before, known, *_ = self._client.together(
            [
                ("GET", self._keys.live),
                ("SMEMBERS", self._keys.generations),
                ("SET", self._keys.loading, generation),
                ("SADD", self._keys.generations, generation),
            ]
        )
        return before or b"", set(known)

    def _write(self, snapshot: Path, generation: bytes, mark: bytes) -> bytes:
        """All rows under the generation; the pointer to it."""
        suffix, last = self._keys.suffix(generation), tuple[bytes, ...]()
        try:
            for hashes in chunks(snapshot, self._keys.project, self._chunk):
                with self._client.transaction(self._keys.loading, generation) as pipe:
                    pipe.rpush(self._keys.written(generation), *hashes)
                last = tuple(hashes)
                self._client.ask([("HSET", key + suffix, *_flat(values)) for key, values in hashes.items()])
        except TakenOver:
            self._expire_keys(generation, last)  # they may have come after the other load looked for them
            raise
        return generation + b" " + mark

    def _expire(self, generations: Iterable[bytes]) -> None:
        """Their rows go when the grace has passed. A reader that is told of none, or of another one, reads anew."""
        for generation in generations:
            for page in self._listed(generation):
                self._expire_keys(generation, page)

    def _listed(self, generation: bytes) -> Iterator[list[bytes]]:
        """The entity keys of a generation, a page at a time."""
        at = 0
        while page := self._client.ask([("LRANGE", self._keys.written(generation), at, at + self._chunk - 1)])[0]:
            yield page
            at += len(page)

    def _whole(self, generation: bytes) -> bool:
        """Whether every row of it is still there: people delete, and a Redis that is full may be set to evict."""
        suffix, pages = self._keys.suffix(generation), 0
        for page in self._listed(generation):
            if not all(self._client.ask([("EXISTS", key + suffix) for key in page])):
                return False
            pages += 1
        return pages > 0

    def _expire_keys(self, generation: bytes, keys: Iterable[bytes]) -> None:
        suffix, grace = self._keys.suffix(generation), int(GRACE_SECONDS * 1000)
        self._client.ask([("PEXPIRE", key + suffix, grace) for key in keys])

    def _forget(self, generations: Iterable[bytes]) -> None:
        for generation in generations:
            self._expire([generation])
            self._client.together(
                [("DEL", self._keys.written(generation)), ("SREM", self._keys.generations, generation)]
            )


def _flat(values: Mapping[bytes, bytes]) -> Iterator[bytes]:
    for pair in values.items():
        yield from pair


def chunks(snapshot: Path, project: str, size: int) -> Iterator[_Hashes]:
    """The snapshot's rows as hashes by entity key; a key comes in as many chunks as it has views."""
    prefix = f"{project}_"
    with closing(sqlite3.connect(f"{snapshot.absolute().as_uri()}?mode=ro", uri=True)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for table in (name for name in tables if name.startswith(prefix)):
            view = table.removeprefix(prefix)
            hashes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
            query = f'SELECT entity_key, feature_name, value, event_ts FROM "{table}" ORDER BY entity_key'  # noqa: S608
            for key, feature, value, event in db.execute(query):
                if len(hashes) >= size and key not in hashes:
                    yield hashes
                    hashes = defaultdict(dict)
                name, stamp = fields(view, (feature,))
                hashes[key] |= {name: value, stamp: _timestamp(int(event))}
            if hashes:
                yield hashes


def _timestamp(seconds: int) -> bytes:
    """google.protobuf.Timestamp with whole seconds."""
    return b"\x08" + _varint(seconds & (2**64 - 1)) if seconds else b""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
