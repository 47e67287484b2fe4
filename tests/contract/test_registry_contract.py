"""One suite for the registry and the tracker, run on a SQLite file and on a real `mlflow server`.

Every change of aliases is killed between any two of its calls: each point is enumerated by a client that raises at call
n, for every n until the change runs through, and a fresh registry finishes what was begun.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serinus.core.errors import Conflict, NotFound, Unavailable
from serinus.core.names import ServiceRef
from serinus.core.ports import Dataset
from serinus.registry.connection import JOB_TAG, connect
from serinus.registry.registry import INTENT_TAG, MANAGED_TAG, MlflowRegistry
from serinus.registry.tracker import MlflowTracker
from serinus.rollout.registry_sync import RETRY_SECONDS, InService, RegistrySync, Synced
from tests.revisions import revision
from tests.servers import free_port

# Real systems are the second part of `make test`.
pytestmark = pytest.mark.slow

START_SECONDS = 120


class Killed(BaseException):
    """Stands for kill -9: nothing in between may catch it."""


class DyingClient:
    """MLflow's client, until its n-th changing call: that one is made or not, and then the process is gone."""

    CHANGES = ("set_", "delete_", "create_", "update_")

    def __init__(self, real: Any, lives: int, *, after: bool) -> None:
        self._real, self._lives, self._after = real, lives, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if not name.startswith(self.CHANGES):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._lives -= 1
            if self._lives >= 0:
                return method(*args, **kwargs)
            if self._after:
                method(*args, **kwargs)
            raise Killed

        return call


@pytest.fixture(scope="module")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@dataclass(frozen=True)
class Server:
    """A tracking server on loopback, in a process group of its own."""

    uri: str
    group: int

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Alive and listening, but it answers nobody."""
        os.killpg(self.group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.group, signal.SIGCONT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started for real and stopped with its whole process group."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield Server(f"http://127.0.0.1:{port}", process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def server_uri(server: Server) -> str:
    return server.uri


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"mlflow server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def model(uri: str) -> str:
    """A model with three versions, the first of which is champion and the second challenger."""
    name = f"toy{uuid.uuid4().hex[:8]}"
    registry, tracker = MlflowRegistry(uri), MlflowTracker(uri)
    for number in range(3):
        run = tracker.open_run(name, f"job-{number}", {})
        registry.register(name, run_id=run, storage_uri=f"file:///b/{number}", tags={"serinus.candidate": f"c{number}"})
    registry.promote(name, 1, reason="first")
    registry.challenge(name, 2)
    return name


def _aliases(uri: str, model: str) -> dict[str, int]:
    """As any reader would see them who does not know of promotions."""
    return {alias: int(number) for alias, number in connect(uri).get_registered_model(model).aliases.items()}


def test_opening_a_run_twice_gives_one_run(uri: str) -> None:
    tracker, problem = MlflowTracker(uri), f"p{uuid.uuid4().hex[:8]}"
    assert tracker.find_run(problem, "job") is None
    run = tracker.open_run(problem, "job", {"a": "b"})
    assert tracker.open_run(problem, "job", {}) == run == tracker.find_run(problem, "job")
    assert connect(uri).get_run(run).data.tags[JOB_TAG] == "job"


def test_a_run_holds_metrics_data_sets_and_files(uri: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(uri)
    run = tracker.open_run(f"p{uuid.uuid4().hex[:8]}", "job", {})
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/bundle.json").write_text("{}")
    tracker.log(run, params={"chosen": "gbdt"}, metrics={"gbdt.auc": 0.75})
    tracker.log_datasets(run, [Dataset("raw", "data/x.parquet", "ab" * 32, "source", 7)])
    tracker.log_files(run, tmp_path / "bundle", "bundle/gbdt")
    tracker.close_run(run, failed="gate said no")
    found = connect(uri).get_run(run)
    assert (found.info.status, found.data.params, found.data.metrics) == (
        "FAILED",
        {"chosen": "gbdt"},
        {"gbdt.auc": 0.75},
    )
    assert found.data.tags["serinus.failure"] == "gate said no"
    (given,) = found.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in given.tags}["serinus.content_hash"] == "ab" * 32
    assert [one.path for one in connect(uri).list_artifacts(run, "bundle/gbdt")] == ["bundle/gbdt/bundle.json"]


def test_registering_is_idempotent(uri: str, model: str) -> None:
    registry = MlflowRegistry(uri)
    first = registry.version(model, "3")
    again = registry.register(model, run_id=first.run_id, storage_uri=first.storage_uri, tags={"more": "1"})
    assert again.version == 3
    assert again.tags["more"] == "1"
    assert [one.version for one in registry.versions(model)] == [3, 2, 1]


def test_a_version_is_found_by_number_and_alias(uri: str, model: str) -> None:
    registry = MlflowRegistry(uri)
    assert registry.version(model, "champion").version == 1
    assert registry.version(model, "2").aliases == ("challenger",)
    assert registry.aliased(model, "previous") is None
    with pytest.raises(NotFound, match="has no version or alias 9") as raised:
        registry.version(model, "9")
    assert raised.value.hint == "versions: 1, 2, 3"
    assert registry.versions("unknown") == []


def test_a_promotion_moves_three_aliases_and_says_why(uri: str, model: str) -> None:
    registry = MlflowRegistry(uri, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    registry.promote(model, 2, reason="rollout r1 promoted it")
    assert _aliases(uri, model) == {"champion": 2, "previous": 1}
    tags = registry.version(model, "2").tags
    assert tags["serinus.promoted_because"] == "rollout r1 promoted it"
    assert tags["serinus.promoted_at"] == "2026-01-02T00:00:00+00:00"


def test_promoting_the_champion_changes_nothing(uri: str, model: str) -> None:
    MlflowRegistry(uri).promote(model, 1, reason="again")
    assert _aliases(uri, model) == {"champion": 1, "challenger": 2}


def test_by_hand_is_refused_while_a_service_manages_the_model(uri: str, model: str) -> None:
    connect(uri).set_registered_model_tag(model, MANAGED_TAG, "modelservice/retail")
    with pytest.raises(Conflict, match="is managed by modelservice/retail"):
        MlflowRegistry(uri).promote(model, 2, reason="by hand", by_hand=True)
    assert _aliases(uri, model) == {"champion": 1, "challenger": 2}
    MlflowRegistry(uri).promote(model, 2, reason="the owner")
    assert _aliases(uri, model)["champion"] == 2


def test_the_first_service_of_a_model_has_its_aliases_until_somebody_takes_the_tag_away(uri: str, model: str) -> None:
    assert MlflowRegistry(uri).manage(model, "service/shop") == "service/shop"
    assert MlflowRegistry(uri).manage(model, "service/ml/shop-b") == "service/shop"
    assert MlflowRegistry(uri).manage(model, "service/shop") == "service/shop"
    with pytest.raises(Conflict, match="is managed by service/shop") as refused:
        MlflowRegistry(uri).promote(model, 2, reason="by hand", by_hand=True)
    assert MANAGED_TAG in refused.value.hint
    connect(uri).delete_registered_model_tag(model, MANAGED_TAG)
    assert MlflowRegistry(uri).manage(model, "service/ml/shop-b") == "service/ml/shop-b"


def test_aliases_are_handed_over_by_the_one_that_has_them_and_by_nobody_else(uri: str, model: str) -> None:
    registry = MlflowRegistry(uri)
    registry.hand_over(model, "service/shop", "service/ml/shop")
    registry.hand_over("unknown", "service/shop", "service/ml/shop")
    assert registry.manage(model, "service/shop") == "service/shop"
    registry.hand_over(model, "service/other", "service/ml/other")
    assert registry.manage(model, "service/ml/shop") == "service/shop"
    for _ in range(2):
        registry.hand_over(model, "service/shop", "service/ml/shop")
        assert registry.manage(model, "service/shop") == "service/ml/shop"


NEXT_CALLS: dict[str, Callable[[MlflowRegistry, str], object]] = {
    "versions": lambda registry, model: registry.versions(model),
    "version": lambda registry, model: registry.version(model, "champion"),
    "aliased": lambda registry, model: registry.aliased(model, "champion"),
    "tag": lambda registry, model: registry.tag(model, 3, {"x": "y"}),
    "register": lambda registry, model: registry.register(
        model, run_id=registry.version(model, "1").run_id, storage_uri="file:///b/9", tags={}
    ),
    "promote the same": lambda registry, model: registry.promote(model, 2, reason="again"),
}


KILLS = [(call, False) for call in NEXT_CALLS] + [("versions", True)]


@pytest.mark.parametrize(("call", "after"), KILLS, ids=[f"{call}, {'after' if a else 'before'}" for call, a in KILLS])
def test_a_promotion_killed_anywhere_is_finished_by_the_next_call(uri: str, model: str, call: str, after: bool) -> None:
    """Killed before or after each of its calls in turn, until it runs through."""
    begun = 0
    for lives in range(50):
        _reset(uri, model)
        client = connect(uri)
        try:
            MlflowRegistry(uri, client=DyingClient(client, lives, after=after)).promote(model, 2, reason="killed")
        except Killed:
            pending = INTENT_TAG in client.get_registered_model(model).tags
            begun += pending
            NEXT_CALLS[call](MlflowRegistry(uri), model)
            done = pending or lives > 0 or call == "promote the same"
            wanted = {"champion": 2, "previous": 1} if done else {"champion": 1, "challenger": 2}
            assert _aliases(uri, model) == wanted, f"killed at call {lives}"
            assert INTENT_TAG not in client.get_registered_model(model).tags
            continue
        break
    # With the intent written: previous, champion, challenger, two tags, and the intent's own removal.
    assert begun == 6
    assert _aliases(uri, model) == {"champion": 2, "previous": 1}


def _reset(uri: str, model: str) -> None:
    client = connect(uri)
    if "previous" in client.get_registered_model(model).aliases:
        client.delete_registered_model_alias(model, "previous")
    client.set_registered_model_alias(model, "champion", "1")
    client.set_registered_model_alias(model, "challenger", "2")


def test_another_promotion_finishes_the_first_and_then_does_its_own(uri: str, model: str) -> None:
    with pytest.raises(Killed):
        MlflowRegistry(uri, client=DyingClient(connect(uri), 2, after=False)).promote(model, 2, reason="killed")
    MlflowRegistry(uri).promote(model, 3, reason="next")
    assert _aliases(uri, model) == {"champion": 3, "previous": 2}


def test_a_challenge_finishes_a_promotion_first(uri: str, model: str) -> None:
    with pytest.raises(Killed):
        MlflowRegistry(uri, client=DyingClient(connect(uri), 3, after=False)).promote(model, 2, reason="killed")
    MlflowRegistry(uri).challenge(model, 3)
    assert _aliases(uri, model) == {"champion": 2, "previous": 1, "challenger": 3}


def test_a_server_that_does_not_answer_is_told() -> None:
    with pytest.raises(Unavailable, match="MLflow does not answer"):
        MlflowTracker("http://127.0.0.1:9").find_run("p", "job")


class TestPeopleInMlflow:
    """What somebody deletes, moves or edits there."""

    def test_a_deleted_version_ends_an_intent_and_no_command(self, uri: str, model: str) -> None:
        with pytest.raises(Killed):
            MlflowRegistry(uri, client=DyingClient(connect(uri), 1, after=False)).promote(model, 2, reason="killed")
        connect(uri).delete_model_version(model, "2")
        for call in ("versions", "aliased", "tag", "register"):
            NEXT_CALLS[call](MlflowRegistry(uri), model)
        assert INTENT_TAG not in connect(uri).get_registered_model(model).tags
        assert _aliases(uri, model) == {"champion": 1}
        MlflowRegistry(uri).promote(model, 3, reason="next")
        assert _aliases(uri, model)["champion"] == 3

    def test_a_deleted_old_champion_does_not_hold_a_promotion_up(self, uri: str, model: str) -> None:
        with pytest.raises(Killed):
            MlflowRegistry(uri, client=DyingClient(connect(uri), 1, after=False)).promote(model, 2, reason="killed")
        connect(uri).delete_model_version(model, "1")
        assert MlflowRegistry(uri).version(model, "champion").version == 2
        assert _aliases(uri, model) == {"champion": 2}

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"to": "x"}', '{"to": 2, "old": 1}', "null"])
    def test_an_intent_that_is_none_is_dropped(self, uri: str, model: str, text: str) -> None:
        connect(uri).set_registered_model_tag(model, INTENT_TAG, text)
        assert MlflowRegistry(uri).version(model, "champion").version == 1
        assert INTENT_TAG not in connect(uri).get_registered_model(model).tags

    def test_a_reader_reads_where_it_may_not_finish(self, uri: str, model: str) -> None:
        """Somebody who may only read, of a registry in which a promotion was cut off."""
        with pytest.raises(Killed):
            MlflowRegistry(uri, client=DyingClient(connect(uri), 2, after=False)).promote(model, 2, reason="killed")

        class ReadOnly(DyingClient):
            """Refuses each change."""

            def __getattr__(self, name: str) -> Any:
                def refuse(*args: Any, **kwargs: Any) -> Any:
                    raise PermissionError("you may only read")

                return refuse if name.startswith(self.CHANGES) else getattr(self._real, name)

        reader = MlflowRegistry(uri, client=ReadOnly(connect(uri), 0, after=False))
        assert [one.version for one in reader.versions(model)] == [3, 2, 1]
        with pytest.raises(Unavailable) as raised:
            reader.promote(model, 3, reason="no")
        assert raised.value.cause == "you may only read"

    def test_after_a_deleted_champion_the_way_back_is_champion_and_nothing_is_behind_it(
        self, uri: str, model: str
    ) -> None:
        registry = MlflowRegistry(uri)
        registry.promote(model, 2, reason="second")
        connect(uri).delete_model_version(model, "2")
        registry.promote(model, 1, reason="by hand")
        assert _aliases(uri, model) == {"champion": 1}
        registry.promote(model, 3, reason="third")
        assert _aliases(uri, model) == {"champion": 3, "previous": 1}

    def test_one_version_under_both_names_is_put_right(self, uri: str, model: str) -> None:
        """As an earlier release left it."""
        connect(uri).set_registered_model_alias(model, "previous", "1")
        MlflowRegistry(uri).promote(model, 1, reason="again")
        assert _aliases(uri, model) == {"champion": 1, "challenger": 2}

    def test_a_moved_alias_is_put_back_with_the_way_back_that_the_service_knows(self, uri: str, model: str) -> None:
        registry = MlflowRegistry(uri)
        registry.promote(model, 2, reason="rollout")
        connect(uri).set_registered_model_alias(model, "champion", "3")
        registry.promote(model, 2, reason="rollout", way_back=1)
        assert _aliases(uri, model) == {"champion": 2, "previous": 1}
        connect(uri).set_registered_model_alias(model, "previous", "3")
        registry.promote(model, 2, reason="rollout", way_back=1)
        assert _aliases(uri, model) == {"champion": 2, "previous": 1}

    def test_a_model_that_was_deleted_as_a_whole_has_no_versions(self, uri: str, model: str) -> None:
        connect(uri).delete_registered_model(model)
        assert MlflowRegistry(uri).versions(model) == []
        with pytest.raises(NotFound):
            MlflowRegistry(uri).manage(model, "service/x")

    def test_a_deleted_experiment_says_how_it_comes_back(self, uri: str, model: str) -> None:
        tracker, client = MlflowTracker(uri), connect(uri)
        experiment = client.get_experiment_by_name(model).experiment_id
        client.delete_experiment(experiment)
        with pytest.raises(Conflict, match="was deleted in MLflow") as raised:
            tracker.open_run(model, "job-9", {})
        assert f"mlflow experiments restore --experiment-id {experiment}" in raised.value.hint
        assert tracker.find_run(model, "job-1") is None
        assert [one.version for one in MlflowRegistry(uri).versions(model)] == [3, 2, 1]
        assert tracker.abandon(model, "job-1", reason="cut off") is False
        client.restore_experiment(experiment)
        assert tracker.open_run(model, "job-9", {}) == tracker.find_run(model, "job-9")

    def test_a_version_whose_run_is_gone_is_registered_by_what_serving_loads(self, sqlite_uri: str) -> None:
        """Of a run that was deleted for good; a server takes no path of a client without its run."""
        name = f"toy{uuid.uuid4().hex[:8]}"
        made = MlflowRegistry(sqlite_uri).register(name, run_id="0" * 32, storage_uri="file:///b/7", tags={})
        assert (made.version, made.storage_uri, made.run_id) == (1, "file:///b/7", "")


def test_a_run_that_was_cut_off_is_closed_as_killed_and_one_that_has_ended_is_left_alone(uri: str) -> None:
    tracker, problem = MlflowTracker(uri), f"p{uuid.uuid4().hex[:8]}"
    cut, done = (tracker.open_run(problem, name, {}) for name in ("cut", "done"))
    tracker.close_run(done, failed=None)
    assert tracker.abandon(problem, "cut", reason="it was cut off") is True
    assert [tracker.abandon(problem, name, reason="no") for name in ("cut", "done", "none")] == [False] * 3
    found = connect(uri).get_run(cut)
    assert (found.info.status, found.data.tags["serinus.failure"]) == ("KILLED", "it was cut off")
    assert connect(uri).get_run(done).info.status == "FINISHED"
    assert tracker.open_run(problem, "cut", {}) == cut
    assert connect(uri).get_run(cut).info.status == "RUNNING"


@pytest.mark.slow
def test_a_server_that_hangs_delays_no_tick_and_is_told_until_it_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own follower in its own thread, against a server that was stopped in mid-flight."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name, now = f"toy{uuid.uuid4().hex[:8]}", [0.0]
    run = MlflowTracker(server.uri).open_run(name, "job", {})
    MlflowRegistry(server.uri).register(name, run_id=run, storage_uri="file:///b/1", tags={})
    told: list[Synced] = []
    sync = RegistrySync(MlflowRegistry(server.uri), told.append, lambda: now[0])
    serves = InService(ServiceRef.parse(name), revision(f"{name}-v1-abc", 1, uri="file:///b/1"))
    with server.hung():
        assert sync.follow(serves).reason == "not asked yet"  # the tick goes on
        sync.settle(60)
        assert not told[0].holds
        assert "MLflow does not answer" in told[0].reason
    now[0] += RETRY_SECONDS
    sync.follow(serves)
    sync.settle(60)
    assert sync.follow(serves).holds
    assert _aliases(server.uri, name) == {"champion": 1}
