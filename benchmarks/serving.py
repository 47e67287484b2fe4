"""A request with 100 candidates, against KServe + Feast + LightGBM: `python benchmarks/serving.py [--quick]`.

Both servers answer the same recorded requests over one keep-alive connection, in turns; answers must be equal. Then, in
one process, what logging an exposure costs. Needs a trained service (`make demo`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _bench import finish

from serinus.evidence.parquet_log import ParquetEventLog
from serinus.features.online import OnlineReader
from serinus.replay.recording import read_recording
from serinus.replay.schedule import Plan, Schedule
from serinus.serving.exposures import ExposureWriter
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane
from serinus.serving.recorder import Identity
from serinus.serving.request import Caller, parse_instance
from serinus.serving.sequence import SequenceFile
from serinus.wiring.adapters import feature_clock
from serinus.wiring.demo_servers import _free_ports
from serinus.wiring.project import Project, open_project
from serinus.wiring.serve import feature_service, load_bundle, online_store
from serinus.wiring.serving import Wish, serve_settings
from serinus.wiring.settings import ServeSettings
from serinus.wiring.steps.data import recording_folder

REQUESTS, ROUNDS = 200, 3
TOLERANCE = 1e-9


def main(arguments: list[str]) -> None:
    """Measures both and checks that they agree."""
    requests, rounds = (40, 1) if "--quick" in arguments else (REQUESTS, ROUNDS)
    project = open_project({}, start=Path(__file__).parent)
    bodies = recorded(project, requests)
    ours, peer = _free_ports(2)
    with tempfile.TemporaryDirectory() as events:
        wish = Wish("retail", accept_event_time=True)
        settings = serve_settings(project, wish, host="127.0.0.1", http_port=ours, grpc_port=0)
        settings = settings.model_copy(update={"events": Path(events)})
        bundle = settings.storage_uri.removeprefix("file://")
        commands = {
            "ours": (["-m", "serinus.wiring.serve", settings.model_dump_json()], ours, "retail"),
            "peer": ([str(Path(__file__).with_name("peer_predictor.py")), bundle, str(peer)], peer, "peer"),
        }
        with server(*commands["ours"]) as mine, server(*commands["peer"]) as theirs:
            measured = {"ours": Measured(mine, ours, "retail"), "peer": Measured(theirs, peer, "peer")}
            for one in measured.values():
                one.ask(bodies[:20], warm=True)
            for _ in range(rounds):
                for one in measured.values():
                    one.ask(bodies)
            assert_equal(measured["ours"].answers, measured["peer"].answers)
        mine_figures, peer_figures = measured["ours"].figures(), measured["peer"].figures()
        rows = [("100 candidates", key, mine_figures[key], peer_figures[key]) for key in mine_figures]
        with_log, without = exposure_cost(settings, bodies, Path(events))
    notes = {
        "answers_equal": True,
        "stages_ms": measured["ours"].stages,
        "exposure log, ms a request in the data plane": {
            "with": with_log, "without": without, "cost": with_log - without,
        },
        "cold": f"ours ready after {measured['ours'].ready:.1f} s, peer after {measured['peer'].ready:.1f} s",
    }  # fmt: skip
    finish("serving", rows, notes)


def recorded(project: Project, count: int) -> list[dict[str, Any]]:
    """The first recorded requests of a day, and the store as of it."""
    recording = read_recording(recording_folder(project, "retail"), "retail")
    schedule = Schedule(recording, Plan(problem="retail", visits=10_000, passes=1, first_pass=1), 0.0)
    found = [one for day in schedule.days() for one in day.requests if f"{one.as_of:%m}" == "11"][:count]
    feature_clock(project, "retail").move_to(found[0].as_of)
    moment = found[0].as_of.isoformat()  # one day's store serves all of them
    return [{"entity": one.entity, "items": list(one.items), "as_of": moment} for one in found]


class Measured:
    """One server under load: latencies, its CPU time, its answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, model: str) -> None:
        self._process, self._path = psutil.Process(process.pid), f"/v1/models/{model}:predict"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._times: list[float] = []
        self._cpu = 0.0
        self.answers: list[dict[str, float]] = []
        self.stages: dict[str, float] = {}
        self.ready = time.time() - self._process.create_time()

    def ask(self, bodies: list[dict[str, Any]], *, warm: bool = False) -> None:
        before, answers = self._cpu_seconds(), []
        for body in bodies:
            text = json.dumps({"instances": [body]}).encode()
            began = time.perf_counter()
            self._connection.request("POST", self._path, text, {"content-type": "application/json"})
            answer = self._connection.getresponse().read()
            if not warm:
                self._times.append((time.perf_counter() - began) * 1e3)
            answers.append({one["item"]: one["probability"] for one in json.loads(answer)["predictions"][0]["items"]})
        if not warm:
            self._cpu += self._cpu_seconds() - before
            self.answers = answers

    def figures(self) -> dict[str, float]:
        p50, p99 = np.quantile(self._times, [0.5, 0.99])
        return {"p50_ms": float(p50), "p99_ms": float(p99), "cpu_ms": 1e3 * self._cpu / len(self._times)}

    def _cpu_seconds(self) -> float:
        used = self._process.cpu_times()
        return used.user + used.system


@contextmanager
def server(arguments: list[str], port: int, model: str) -> Iterator[subprocess.Popen[bytes]]:
    """Running and ready; stopped at the end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KSERVE_LOGLEVEL": "WARNING"}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            try:
                connection = HTTPConnection("127.0.0.1", port, timeout=1)
                connection.request("GET", f"/v1/models/{model}")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise RuntimeError(f"{arguments[0]} did not come up")
        yield process
    finally:
        process.terminate()
        process.wait(30)


def assert_equal(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    """Every probability of every request."""
    for mine, peer in zip(ours, theirs, strict=True):
        assert list(mine) == list(peer) or sorted(mine) == sorted(peer)
        worst = max(abs(mine[item] - peer[item]) for item in mine)
        assert worst <= TOLERANCE, worst


class _Nowhere:
    def put(self, exposure: object, scores: object) -> bool:
        return True


def exposure_cost(settings: ServeSettings, bodies: list[dict[str, Any]], events: Path) -> tuple[float, float]:
    """CPU of the whole process a request, in ms: with the log and without, in turns."""
    bundle = load_bundle(settings.storage_uri)
    reader = OnlineReader(online_store(settings.online, "retail"), feature_service(bundle))
    identity = Identity("retail", settings.salt, "1", "bench")
    from prometheus_client import CollectorRegistry

    metrics = [ServingMetrics(CollectorRegistry()) for _ in range(3)]
    writer = ExposureWriter(ParquetEventLog(events / "bench"), SequenceFile(events / "numbers", "bench"), metrics[2])
    planes = [
        DataPlane(identity, bundle, reader, log, one, accept_event_time=True)
        for log, one in ((writer, metrics[0]), (_Nowhere(), metrics[1]))
    ]
    asked = [parse_instance(body, "x") for body in bodies]
    spent = [0.0, 0.0]
    for _ in range(ROUNDS):
        for position, plane in enumerate(planes):
            began = time.process_time()
            for one in asked:
                plane.answer(one, Caller())
            time.sleep(0.3)  # what was put last is written, too
            spent[position] += time.process_time() - began
    writer.close()
    return tuple(1e3 * one / (ROUNDS * len(asked)) for one in spent)  # type: ignore[return-value]


if __name__ == "__main__":
    main(sys.argv[1:])
