"""The real collector and predictor as processes: SIGTERM ends them after their requests, SIGKILL loses nothing told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit/serving"))
from servers import free_port, wait_for_port
from toy import SERVICE, bundle

from serinus.client import Client, Unreachable, bucket_of
from serinus.core.events import Stream
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.model.bundle import write_bundle
from serinus.wiring.settings import ServeSettings

pytestmark = pytest.mark.slow
COLLECT = (
    "import sys; from pathlib import Path\n"
    "from serinus.evidence.collector import CollectorSettings, serve\n"
    "from serinus.evidence.parquet_log import ParquetEventLog\n"
    "serve(ParquetEventLog(Path(sys.argv[1])), '127.0.0.1', int(sys.argv[2]), CollectorSettings())"
)


@contextmanager
def process(arguments: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Running once its port is open; killed at the end if it still runs."""
    environment = {k: v for k, v in os.environ.items() if "PROMETHEUS" not in k}
    started = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE)
    try:
        wait_for_port(port, 60)
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
    with process(["-c", COLLECT, str(tmp_path), str(port)], port) as collector:
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


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    """The toy model, over an online store that is empty: every answer is one of defaults."""
    made = bundle()
    write_bundle(tmp_path / "bundle", made.manifest, made.scorer)
    _empty_store(tmp_path / "online.db")
    return ServeSettings(
        service="toy", salt="ab", version="1", revision="toy-v1-abcdef", storage_uri=str(tmp_path / "bundle"),
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


def _loads(settings: ServeSettings) -> list[Load]:
    clients = [Client(f"http://127.0.0.1:{settings.http_port}", service="toy", salt="ab", tries=1) for _ in range(3)]
    return [
        Load(lambda n, c=client: c.predict(f"e{n}", ["a", "b"], request_id=f"r{n}"), i * 10_000)
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
    with process(_serve(settings), settings.http_port) as predictor:
        with Client(f"http://127.0.0.1:{settings.http_port}", service="toy", salt="ab") as client:
            client.predict("last", ["a"], request_id="last")
        predictor.send_signal(signal.SIGTERM)
        assert predictor.wait(40) == 0
    rows = _written(settings)
    last = rows["last"]
    assert {row["writer"] for row in rows.values()} == {last["writer"]}
    lost = last["sequence"] + 1 - len(rows)
    assert lost >= answered - len(before)
    assert lost >= 0
    assert last["bucket"] == bucket_of("ab", "last")


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
