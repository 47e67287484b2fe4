"""What is wrong with an address of Redis is told when a client is made, not with the first request."""

from __future__ import annotations

import pytest

from serinus.core.errors import Unavailable
from serinus.core.names import ServiceRef
from serinus.evidence.redis_streams import RedisStreams
from serinus.features.redis_client import RedisClient


@pytest.mark.parametrize("rest", ["127.0.0.1:port", "127.0.0.1:1/0?nosuch=1", "127.0.0.1:1/0?socket_timeout=soon"])
def test_an_address_that_redis_does_not_take_is_told(rest: str) -> None:
    for scheme in ("redis", "rediss", "redis+cluster", "rediss+cluster"):
        with pytest.raises(Unavailable, match="is not an address of Redis"):
            RedisClient(f"{scheme}://:secret@{rest}", 1.0)
    with pytest.raises(Unavailable, match="is not an address of Redis") as told:
        RedisStreams(f"redis://:secret@{rest}", ServiceRef("default", "toy"))
    assert "secret" not in told.value.headline + told.value.cause + told.value.hint
