"""`serinus features lookup` reads the store that a predictor would: the same values from SQLite and from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.wiring.project import open_project
from tests.servers import RedisServer, free_port, redis_server

ASKED = ("features", "lookup", "renewal", "--account", "A000")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def looked_up(*arguments: str) -> Any:
    found = run(*ASKED, *arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def known(found: Any) -> bool:
    return bool(found[0]["known"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def built(renewal_project: Path, store: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features are built; no online store has been loaded."""
    monkeypatch.delenv("SERINUS_ONLINE", raising=False)
    redis.Redis.from_url(store.address).flushall()
    found = run("features", "build", "renewal")
    assert found.exit_code == 0, found.output
    return renewal_project


def materialize(*arguments: str) -> None:
    found = run("features", "materialize", "renewal", *arguments)
    assert found.exit_code == 0, found.output


def test_a_lookup_reads_the_address_that_it_is_given(built: Path, store: RedisServer, tmp_path: Path) -> None:
    materialize("--online", store.address)
    from_redis = looked_up("--online", store.address)
    assert known(from_redis)
    elsewhere = str(tmp_path / "elsewhere.db")
    materialize("--online", elsewhere)
    assert looked_up("--online", elsewhere) == from_redis
    assert not (open_project().home / "feast/renewal/online.db").exists()


def test_a_lookup_follows_the_profile(built: Path, store: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As materialize and serve do; what the embedded store has is not looked at."""
    materialize()
    assert known(looked_up())
    monkeypatch.setenv("SERINUS_ONLINE", store.address)
    assert not known(looked_up())
    materialize()
    in_redis = looked_up()
    assert known(in_redis)
    monkeypatch.delenv("SERINUS_ONLINE")
    assert looked_up() == in_redis
    text = (built / "serinus.toml").read_text(encoding="utf-8")
    profile = "[profiles.embedded]\n"
    assert profile in text
    (built / "serinus.toml").write_text(
        text.replace(profile, f'{profile}online = "{store.address}"\n'), encoding="utf-8"
    )
    (open_project().home / "feast/renewal/online.db").unlink()
    assert looked_up() == in_redis


def test_a_store_that_is_away_is_told_without_its_password(built: Path) -> None:
    found = run(*ASKED, "--online", f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert found.exit_code == 5
    assert "the online store at redis://127.0.0.1" in found.stderr.replace("\n", " ")
    assert "secret" not in found.output
