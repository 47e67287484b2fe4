"""Online stores by address: which schemes there are, and that a file needs no Redis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serinus.core.errors import UsageError
from serinus.features.online import SqliteStore
from serinus.features.redis_loader import RedisLoader
from serinus.features.redis_store import RedisStore
from serinus.features.snapshots import SqliteLoader
from serinus.features.stores import loader_of, store_of


@pytest.mark.parametrize(
    ("address", "store", "loader"),
    [
        ("/var/lib/online.db", SqliteStore, SqliteLoader),
        ("online.db", SqliteStore, SqliteLoader),
        ("sqlite:///var/lib/online.db", SqliteStore, SqliteLoader),
        ("redis://features:6379/0", RedisStore, RedisLoader),
        ("rediss://:secret@features", RedisStore, RedisLoader),
        ("redis+cluster://features:6379", RedisStore, RedisLoader),
        ("rediss+cluster://:secret@features", RedisStore, RedisLoader),
    ],
)
def test_an_address_says_what_reads_and_what_loads_it(address: str, store: type, loader: type) -> None:
    """Nothing is asked of a server yet: a predictor may be up before its store."""
    assert isinstance(store_of(address, "toy"), store)
    assert isinstance(loader_of(address, "toy"), loader)


@pytest.mark.parametrize("address", ["http://features:6379", "redis+sentinel://features", "s3://bucket/online.db"])
def test_an_unknown_scheme_is_told_with_those_that_are_known(address: str) -> None:
    for asked in (store_of, loader_of):
        with pytest.raises(UsageError, match="is no address of an online store") as told:
            asked(address, "toy")
        assert (
            told.value.hint == "known: a path, sqlite://…, redis://…, rediss://…, redis+cluster://…, rediss+cluster://…"
        )


def test_a_file_is_opened_without_importing_redis(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from serinus.features.stores import loader_of, store_of\n"
        "store_of(sys.argv[1], 'toy'), loader_of(sys.argv[1], 'toy')\n"
        "assert 'redis' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "o.db")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
