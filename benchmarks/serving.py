"""A request with 100 candidates, against KServe + Feast + LightGBM: `python benchmarks/serving.py [--quick]`.

Both servers answer the same recorded requests over one keep-alive connection each, in turns; every probability and the
order must be equal. Feast's client takes rows that are past their ttl and ours does not, so items with such a row are
left out of that check, and counted. Then, in one process, what logging an exposure costs. Needs a trained service
(`make demo`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _bench import finish
from prometheus_client import CollectorRegistry

from serinus.core.events import BESIDE, Stream
from serinus.core.names import ServiceRef
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.model.bundle import read_bundle
from serinus.model.stores import bundle_at
from serinus.replay.recording import read_recording
from serinus.replay.schedule import Plan, Schedule
from serinus.serving.exposures import ExposureWriter
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane
from serinus.serving.recorder import ExposureLog, Identity
from serinus.serving.request import Caller, parse_instance
from serinus.serving.sequence import SequenceFile
from serinus.wiring.adapters import feature_clock
from serinus.wiring.demo_servers import free_ports
from serinus.wiring.project import Project, open_project
from serinus.wiring.serve import online_reader
from serinus.wiring.serving import Wish, serve_settings
from serinus.wiring.settings import ServeSettings
from serinus.wiring.steps.data import recording_folder

REQUESTS, ROUNDS, QUICK_REQUESTS, QUICK_ROUNDS = 200, 5, 20, 1
START_SECONDS, STOP_SECONDS, FLUSHED_SECONDS = 120.0, 30.0, 0.3
TOLERANCE = 1e-12
RETAIL = ServiceRef.parse("retail")
Body = dict[str, Any]


def main(arguments: list[str]) -> None:
    """Measures both, checks that they agree, and writes the results."""
    quick = "--quick" in arguments
    requests, rounds = (QUICK_REQUESTS, QUICK_ROUNDS) if quick else (REQUESTS, ROUNDS)
    project = open_project(os.environ, start=Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        bodies, online = recorded(project, requests), Path(folder) / "online.db"
        feature_clock(project, "retail", str(online)).move_to(datetime.fromisoformat(bodies[0]["as_of"]))
        settings = our_settings(project, online, Path(folder) / "events")
        ours, peer = answered(settings, project, bodies, rounds)
        past = expired(settings, bodies)
        worst = check_equal(ours.answers, peer.answers, past)
        logged, unlogged = exposure_cost(settings, bodies, rounds)
        sizes = log_bytes(Path(settings.events, "cost"))
    mine, theirs = ours.figures(), peer.figures()
    rows = [("100 candidates", key, mine[key], theirs[key]) for key in mine]
    rows += [("exposure log", "cpu_ms, against none", logged, unlogged)]
    notes = {
        "answers_equal": f"{len(bodies)} requests, same order, probabilities differ by at most {worst:.1e}",
        "items left out, past their ttl": f"{sum(map(len, past))} of {sum(len(body['items']) for body in bodies):,}",
        "exposure log, cpu ms a request": f"{logged:.3f} with, {unlogged:.3f} without: {logged - unlogged:.3f}",
        "exposure log, bytes a request once merged": ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()),
        "start to ready, s": f"ours {ours.ready:.1f}, peer {peer.ready:.1f}",
    }
    finish("serving", rows, notes)


def recorded(project: Project, count: int) -> list[Body]:
    """The first recorded requests, all as of the moment of the first: one day's store serves them."""
    recording = read_recording(recording_folder(project, "retail"), "retail")
    schedule = Schedule(recording, Plan(service=RETAIL, visits=count, passes=1, first_pass=1), 0.0)
    asked = [one for day in schedule.days() for one in day.requests]
    moment = asked[0].as_of.isoformat()
    return [{"entity": one.entity, "items": list(one.items), "as_of": moment} for one in asked]


def our_settings(project: Project, online: Path, events: Path) -> ServeSettings:
    """The wanted version, on a store and a log of its own."""
    wish = Wish(RETAIL, online=str(online), accept_event_time=True)
    settings = serve_settings(project, wish, host="127.0.0.1", http_port=free_ports(1)[0], grpc_port=0)
    return settings.model_copy(update={"events": str(events)})


def answered(settings: ServeSettings, project: Project, bodies: list[Body], rounds: int) -> tuple[Measured, Measured]:
    """Both servers after all rounds."""
    (port,) = free_ports(1)
    document = {
        "bundle": str(bundle_at(settings.storage_uri)), "online": settings.online, "port": port,
        "registry": str(project.home / "feast" / "retail" / "registry.db"),
    }  # fmt: skip
    ours = ["-m", "serinus.wiring.serve", settings.model_dump_json()]
    theirs = [str(Path(__file__).with_name("peer_predictor.py")), json.dumps(document)]
    with ExitStack() as stack:
        measured = [
            stack.enter_context(server(ours, settings.http_port, "retail")),
            stack.enter_context(server(theirs, port, "peer")),
        ]
        for one in measured:
            one.ask(bodies[: len(bodies) // 4])
            one.forget()
        for _ in range(rounds):
            for one in measured:
                one.ask(bodies)
    return measured[0], measured[1]


class Measured:
    """One server under load: latencies, its CPU time, its last answers."""

    def __init__(self, process: psutil.Process, port: int, model: str) -> None:
        self._process, self._path = process, f"/v1/models/{model}:predict"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=STOP_SECONDS)
        self.ready = time.time() - process.create_time()
        self.forget()

    def forget(self) -> None:
        """Begins anew: what came before was to warm up."""
        self._times: list[float] = []
        self._cpu = 0.0
        self.answers: list[dict[str, float]] = []

    def ask(self, bodies: Sequence[Body]) -> None:
        """All of them, one after the other."""
        texts, before = [json.dumps({"instances": [body]}).encode() for body in bodies], self._cpu_seconds()
        found = [self._one(text) for text in texts]
        time.sleep(FLUSHED_SECONDS)  # what is written behind the answer counts, too
        self._cpu += self._cpu_seconds() - before
        self.answers = [
            {one["item"]: one["probability"] for one in json.loads(text)["predictions"][0]["items"]} for text in found
        ]

    def _one(self, text: bytes) -> bytes:
        began = time.perf_counter()
        self._connection.request("POST", self._path, text, {"content-type": "application/json"})
        response = self._connection.getresponse()
        found = response.read()
        self._times.append((time.perf_counter() - began) * 1e3)
        if response.status != 200:
            raise RuntimeError(f"{self._path}: {response.status} {found[:500]!r}")
        return found

    def figures(self) -> dict[str, float]:
        """Milliseconds a request."""
        p50, p99 = np.quantile(self._times, [0.5, 0.99])
        return {"p50_ms": float(p50), "p99_ms": float(p99), "cpu_ms": 1e3 * self._cpu / len(self._times)}

    def _cpu_seconds(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)


@contextmanager
def server(arguments: list[str], port: int, model: str) -> Iterator[Measured]:
    """Running and ready; stopped at the end. Raises `RuntimeError` with its last words when it does not come up."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "KSERVE_LOGLEVEL": "WARNING"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not is_ready(port, model):
                if time.monotonic() > deadline or process.poll() is not None:
                    said.seek(0)
                    raise RuntimeError(f"{model} did not come up:\n{said.read()[-2000:].decode()}")
                time.sleep(0.05)
            yield Measured(psutil.Process(process.pid), port, model)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def is_ready(port: int, model: str) -> bool:
    """Whether the model answers for itself."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v1/models/{model}")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def expired(settings: ServeSettings, bodies: list[Body]) -> list[set[str]]:
    """For each request the items with a row past its ttl; all of them when the customer has one."""
    bundle = read_bundle(bundle_at(settings.storage_uri))
    reader = online_reader(settings.online, bundle)
    found = []
    for body in bodies:
        ids = {"customer": [body["entity"]], "item": body["items"]}
        sides = reader.read_together(ids, datetime.fromisoformat(body["as_of"]))
        past = {
            entity: {one for states in side.status.values() for one, state in zip(ids[entity], states, strict=True)
                     if state == "expired"}
            for entity, side in sides.items()
        }  # fmt: skip
        found.append(set(body["items"]) if past["customer"] else past["item"])
    return found


def check_equal(ours: list[dict[str, float]], theirs: list[dict[str, float]], past: list[set[str]]) -> float:
    """The largest difference of two probabilities. Raises AssertionError when the answers are not the same."""
    worst, compared = 0.0, 0
    for mine, peer, without in zip(ours, theirs, past, strict=True):
        assert set(mine) == set(peer)
        order = [item for item in mine if item not in without]
        assert order == [item for item in peer if item not in without], "items in another order"
        worst = max(worst, *(abs(mine[item] - peer[item]) for item in order), 0.0)
        compared += len(order)
    assert compared > 0.9 * sum(map(len, ours)), "too few items were compared"
    assert worst <= TOLERANCE, worst
    return worst


class Nowhere:
    """An exposure log that drops what it gets."""

    def put(self, exposure: object, beside: object) -> bool:  # noqa: ARG002 - the port's signature
        """See `ExposureLog`."""
        return True


@dataclass
class Timed:
    """A data plane with the CPU seconds that the whole process spent on it."""

    plane: DataPlane
    seconds: float = 0.0


def exposure_cost(settings: ServeSettings, bodies: list[Body], rounds: int) -> tuple[float, float]:
    """CPU ms a request in the data plane, its writing thread included: with the log and without, in turns."""
    metrics = ServingMetrics(CollectorRegistry())
    log, sequence = (
        ParquetEventLog(Path(settings.events, "cost")),
        SequenceFile(Path(settings.events, "numbers"), "bench"),
    )
    writer = ExposureWriter(log, sequence, metrics)
    both = Timed(plane(settings, writer)), Timed(plane(settings, Nowhere()))
    asked = [parse_instance(body, "instances[0]") for body in bodies]
    for one in both:
        spend(one, asked)
        one.seconds = 0.0
    for _ in range(rounds):
        for one in both:
            spend(one, asked)
    writer.close()
    sequence.close()
    logged, unlogged = (1e3 * one.seconds / (rounds * len(asked)) for one in both)
    return logged, unlogged


def log_bytes(folder: Path) -> dict[str, float]:
    """By stream: of its one segment, a request."""
    log = ParquetEventLog(folder)
    requests = sum(one.rows for one in log.segments(Stream.EXPOSURES))
    for stream in (*BESIDE, Stream.EXPOSURES):
        log.compact(stream, log.segments(stream))
    sizes = {stream: sum(path.stat().st_size for path in (folder / stream.value).iterdir()) for stream in Stream}
    return {stream.value: size / requests for stream, size in sizes.items() if size}


def plane(settings: ServeSettings, log: ExposureLog) -> DataPlane:
    """The data plane of the predictor with another log."""
    bundle = read_bundle(bundle_at(settings.storage_uri))
    reader = online_reader(settings.online, bundle)
    identity = Identity(settings.service, settings.salt, str(settings.version), settings.revision)
    return DataPlane(
        identity, bundle, reader, log, ServingMetrics(CollectorRegistry()), accept_event_time=True,
        covariates=settings.covariates, inputs_share=settings.inputs_share,
    )  # fmt: skip


def spend(one: Timed, asked: Sequence[Any]) -> None:
    """Answers all, and waits until what was put is written."""
    began = time.process_time()
    for request in asked:
        one.plane.answer(request, Caller())
    time.sleep(FLUSHED_SECONDS)
    one.seconds += time.process_time() - began


if __name__ == "__main__":
    main(sys.argv[1:])
