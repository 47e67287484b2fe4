"""The real collector and predictor as processes: SIGTERM ends them after their requests, SIGKILL loses nothing told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/serving"))
from toy import SERVICE, bundle

from serinus.client import Client, Unreachable, bucket_of
from serinus.core.events import Stream
from serinus.core.names import ServiceRef
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.model.bundle import write_bundle
from serinus.wiring.settings import CollectSettings, ServeSettings
from tests.servers import free_port, redis_server, wait_for_port

TOY = ServiceRef("default", "toy")

pytestmark = pytest.mark.slow
# As in the predictor's image, which leaves it out.
WITHOUT_PYARROW = (
    "import sys; sys.modules['pyarrow'] = None\nfrom serinus.wiring.serve import main; sys.exit(main(sys.argv[1:]))"
)


@contextmanager
def process(arguments: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Running once its port is open; killed at the end if it still runs."""
    environment = {k: v for k, v in os.environ.items() if "PROMETHEUS" not in k}
    started = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE)
    try:
        wait_for_port(port, 180)
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stderr is not None
        started.stderr.close()


class Load(threading.Thread):
    """Calls `send` with 0, 1, 2 … until it fails or enough are sent; remembers what was acknowledged."""

    def __init__(self, send: Any, first: int, most: int = 2_000) -> None:
        super().__init__()
        self.send, self.numbers, self.acknowledged = send, range(first, first + most), list[int]()
        self.enough, self.stopping = threading.Event(), threading.Event()

    def run(self) -> None:
        for number in self.numbers:
            if self.stopping.is_set():
                return
            try:
                self.send(number)
            except (Unreachable, OSError):
                return
            self.acknowledged.append(number)
            if len(self.acknowledged) >= 20:
                self.enough.set()


def _outcome(number: int) -> dict[str, Any]:
    return {"id": f"o{number}", "name": "bought", "request_id": f"r{number}", "as_of": 1.0}


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_every_outcome_that_was_accepted_is_on_disk(tmp_path: Path, kill: signal.Signals) -> None:
    port = free_port()
    with process(_collect(CollectSettings(service=TOY, folder=str(tmp_path), port=port)), port) as collector:
        clients = [Client(f"http://127.0.0.1:{port}", tries=1) for _ in range(3)]
        loads = [
            Load(lambda n, c=client: c.send_outcomes([_outcome(n)]), i * 10_000) for i, client in enumerate(clients)
        ]
        for load in loads:
            load.start()
        for load in loads:
            assert load.enough.wait(30)
        collector.send_signal(kill)
        for load in loads:
            load.join(60)
        assert collector.wait(30) == (0 if kill is signal.SIGTERM else -signal.SIGKILL)
    log = ParquetEventLog(tmp_path)
    written = {row["id"] for one in log.segments(Stream.OUTCOMES) for row in log.read(one, ["id"]).to_pylist()}
    told = {f"o{number}" for load in loads for number in load.acknowledged}
    assert len(told) >= 60
    assert told <= written
    for client in clients:
        client.close()


def _collect(settings: CollectSettings) -> list[str]:
    return ["-m", "serinus.wiring.collect", settings.model_dump_json()]


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    """The toy model, over an online store that is empty: every answer is one of defaults."""
    made = bundle()
    write_bundle(tmp_path / "bundle", made.manifest, made.scorer)
    _empty_store(tmp_path / "online.db")
    return ServeSettings(
        service=TOY, salt="ab", version=1, revision="toy-v1-abcdef", storage_uri=str(tmp_path / "bundle"),
        online=str(tmp_path / "online.db"), events=str(tmp_path / "events"),
        http_port=free_port(), grpc_port=free_port(),
    )  # fmt: skip


def _empty_store(path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(path)
    for view in SERVICE.views:
        db.execute(
            f'CREATE TABLE "toy_{view.name}" (entity_key BLOB, feature_name TEXT, value BLOB, event_ts timestamp)'
        )
    db.commit()
    db.close()


def _serve(settings: ServeSettings) -> list[str]:
    return ["-m", "serinus.wiring.serve", settings.model_dump_json()]


def _loads(settings: ServeSettings, most: int = 2_000) -> list[Load]:
    clients = [Client(f"http://127.0.0.1:{settings.http_port}", service="toy", salt="ab", tries=1) for _ in range(3)]
    return [
        Load(lambda n, c=client: c.predict(f"e{n}", ["a", "b"], request_id=f"r{n}"), i * 100_000, most)
        for i, client in enumerate(clients)
    ]


def _written(settings: ServeSettings) -> dict[str, dict[str, Any]]:
    log = ParquetEventLog(Path(settings.events))
    return {row["request_id"]: row for one in log.segments(Stream.EXPOSURES) for row in log.read(one).to_pylist()}


def test_sigterm_answers_what_is_under_way_and_writes_every_exposure(settings: ServeSettings) -> None:
    with process(_serve(settings), settings.http_port) as predictor:
        loads = _loads(settings)
        for load in loads:
            load.start()
        for load in loads:
            assert load.enough.wait(30)
        predictor.send_signal(signal.SIGTERM)
        for load in loads:
            load.join(60)
        assert predictor.wait(40) == 0
    told = {f"r{number}" for load in loads for number in load.acknowledged}
    assert told <= set(_written(settings))


def test_what_a_kill_loses_is_a_gap_of_the_next_process(settings: ServeSettings) -> None:
    """Killed with rows that were not flushed: the next process of the revision goes on with the numbers."""
    with process(_serve(settings), settings.http_port) as predictor:
        loads = _loads(settings)
        for load in loads:
            load.start()
        for load in loads:
            assert load.enough.wait(30)
        predictor.kill()
        for load in loads:
            load.join(60)
    answered = sum(len(load.acknowledged) for load in loads)
    before = _written(settings)
    _one_more(_serve(settings), settings)
    rows = _written(settings)
    last = rows["last"]
    assert {row["writer"] for row in rows.values()} == {last["writer"]}
    lost = last["sequence"] + 1 - len(rows)
    assert lost >= answered - len(before)
    assert lost >= 0
    assert last["bucket"] == bucket_of("ab", "last")


def test_events_come_through_redis_whoever_of_the_three_is_killed(settings: ServeSettings, tmp_path: Path) -> None:
    """Under load: the collector, Redis, and the predictor; the first two lose nothing, the last what it counts."""
    outcomes = free_port()
    with redis_server(tmp_path, durable=True) as redis_up:
        through = {"events": redis_up.address, "writers": str(tmp_path / "writers")}
        wanted = ServeSettings(**(settings.model_dump() | through))
        collect = _collect(CollectSettings(service=TOY, folder=settings.events, events=redis_up.address, port=outcomes))
        serve = ["-c", WITHOUT_PYARROW, wanted.model_dump_json()]
        loads = _loads(wanted, most=100_000)
        with process(serve, wanted.http_port) as predictor:
            with process(collect, outcomes) as collector:
                for load in loads:
                    load.start()
                _until(lambda: len(_written(settings)) >= 20)
                collector.kill()
            _more(loads)
            redis_up.stop()
            _more(loads)
            redis_up.start()
            with process(collect, outcomes):
                known = len(_written(settings))
                _until(lambda: len(_written(settings)) > known)
                predictor.kill()
                for load in loads:
                    load.join(60)
        _one_more(serve, wanted)
        with process(collect, outcomes) as collector:
            _until(lambda: "last" in _written(settings))
            collector.send_signal(signal.SIGTERM)
            assert collector.wait(30) == 0
    rows = _written(settings)
    assert {row["writer"] for row in rows.values()} == {rows["last"]["writer"]}
    lost = rows["last"]["sequence"] + 1 - len(rows)
    told = {f"r{number}" for load in loads for number in load.acknowledged}
    assert len(told - set(rows)) <= lost <= len(told - set(rows)) + len(loads), "each may have had one under way"
    assert _ids(settings, Stream.EXPOSURES) <= _ids(settings, Stream.SCORES)


def _one_more(serve: list[str], settings: ServeSettings) -> None:
    """The next process of the revision, which goes on with the numbers."""
    with process(serve, settings.http_port) as predictor:
        with Client(f"http://127.0.0.1:{settings.http_port}", service="toy", salt="ab") as client:
            client.predict("last", ["a"], request_id="last")
        predictor.send_signal(signal.SIGTERM)
        assert predictor.wait(40) == 0


def _more(loads: list[Load]) -> None:
    """Requests go on being answered."""
    before = [len(load.acknowledged) for load in loads]
    _until(lambda: all(len(load.acknowledged) >= known + 20 for load, known in zip(loads, before, strict=True)))


def _until(done: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def _ids(settings: ServeSettings, stream: Stream) -> set[str]:
    log = ParquetEventLog(Path(settings.events))
    return {name for one in log.segments(stream) for name in log.read(one, ["id"])["id"].to_pylist()}


def test_the_collectors_settings_are_checked_before_it_listens() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serinus.wiring.collect", '{"service": "toy"}'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the settings of this process are not valid" in done.stderr
    assert "folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_that_fails_its_golden_rows_never_opens_a_port(settings: ServeSettings) -> None:
    path = Path(settings.storage_uri) / "bundle.json"
    document = json.loads(path.read_text())
    document["golden"]["probabilities"][0] += 1e-6
    path.write_text(json.dumps(document))
    done = subprocess.run([sys.executable, *_serve(settings)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "does not reproduce its golden rows" in done.stderr
    assert "Traceback" not in done.stderr


def test_both_protocols_answer_on_loopback_alone(settings: ServeSettings) -> None:
    with process(_serve(settings), settings.http_port):
        connection = HTTPConnection("127.0.0.1", settings.http_port, timeout=5)
        connection.request("GET", "/v2/models/toy/ready")
        assert json.loads(connection.getresponse().read()) == {"name": "toy", "ready": True}
        connection.request("GET", "/metrics")
        assert "serinus_model_info" in connection.getresponse().read().decode()
        connection.close()
        wait_for_port(settings.grpc_port)
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        local = [line.split()[1] for line in tables.splitlines() if ":" in line]
        for port in (settings.http_port, settings.grpc_port):
            owners = {one.split(":")[0] for one in local if one.endswith(f":{port:04X}")}
            assert owners
            assert owners <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, also as an IPv6 address
