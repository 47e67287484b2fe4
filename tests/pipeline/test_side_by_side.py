"""Two services of one model, one name in two namespaces, and one of another model: side by side in one home, one Redis
and one registry, each with its predictors, its log, its KPIs and a rollout, and none of them in the way of another.

The model and the outcomes are small; processes, Redis, collector, judge and engine are the real ones.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import redis

sys.path.insert(0, str(Path(__file__).parents[1]))
from renewal_copy import Project, new_project
from servers import RedisServer, free_port, redis_server

from serinus.client import Client, RoutedClient, RouteFile
from serinus.core.names import ServiceRef
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.wiring import services
from serinus.wiring.adapters import registry
from serinus.wiring.lookup import Asked, look_up
from serinus.wiring.project import open_project

pytestmark = pytest.mark.slow
FIRST, SECOND, OTHER = (ServiceRef.parse(text) for text in ("renewal", "lab/renewal", "renewal-two"))
# How often a customer stays with the version that came first, and with the one that is rolled out.
STAYS = {FIRST: (0.4, 0.7), SECOND: (0.7, 0.1), OTHER: (0.5, 0.5)}
VERSIONS = {FIRST: (1, 2), SECOND: (3, 4), OTHER: (1, 2)}
ENDS = {FIRST: Phase.PROMOTED, SECOND: Phase.ROLLED_BACK, OTHER: Phase.ABORTED}
KPIS = """  kpis:
    - {name: stays, formula: conversion, window: 3s, direction: higher, role: goal, per: request,
       non_inferiority_margin: 0.5}
    - {name: error_rate"""
SECONDS = 300.0


@dataclass
class Played:
    """The visits of one service: how many were answered, and what broke."""

    answered: int = 0
    broken: list[BaseException] = field(default_factory=list)


@dataclass
class World:
    """What runs."""

    project: Project
    store: RedisServer
    collectors: dict[ServiceRef, str] = field(default_factory=dict)
    played: dict[ServiceRef, Played] = field(default_factory=dict)
    running: dict[ServiceRef, ExitStack] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        places = {"SERINUS_ONLINE": self.store.address, "SERINUS_EVENTS": self.store.address}
        return self.project.environment | places

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.project.command(*arguments), env=self.environment, cwd=self.project.empty,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def places(self, service: ServiceRef) -> services.Places:
        return services.places(open_project(self.environment), service)

    def rollout(self, service: ServiceRef) -> RolloutState | None:
        """As it is; None before there is one."""
        store = services.rollouts(open_project(self.environment), service)
        return store.state(store.names()[-1]) if store.names() else None


def side_by_side(folder: Path) -> Project:
    """The second problem twice, under names that differ by a suffix; judged within seconds, on few customers."""
    project = new_project(folder)
    card = "problems/renewal/problem.yaml"
    text = (project.folder / card).read_text()
    begin, end = text.index("  kpis:"), text.index("{name: error_rate")
    text = text[:begin] + KPIS + text[end + len("{name: error_rate") :]
    steps = "      - {shadow: 1.0, min_units: 60}\n"
    assert steps in text
    (project.folder / card).write_text(text.replace(steps, ""))
    for path in [*(project.folder / "problems/renewal").rglob("*"), project.folder / "feature_repo/renewal.py"]:
        copy = Path(
            str(path).replace("problems/renewal", "problems/renewal-two").replace("renewal.py", "renewal_two.py")
        )
        if path.suffix in (".py", ".yaml"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_renamed(path.read_text()))
        elif path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return project


def _renamed(text: str) -> str:
    return text.replace("name: renewal\n", "name: renewal-two\n").replace('"renewal/', '"renewal-two/')


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All three, with their rollouts at an end and everything still running."""
    folder = tmp_path_factory.mktemp("side")
    with redis_server(tmp_path_factory.mktemp("redis"), durable=True) as store, ExitStack() as all_of_them:
        world = World(side_by_side(folder), store)
        _train(world)
        for service in ENDS:
            port, running = free_port(), all_of_them.enter_context(ExitStack())
            world.collectors[service], world.running[service] = f"http://127.0.0.1:{port}", running
            running.enter_context(_process(world, "collect", service.shown, "--port", str(port)))
            running.enter_context(_process(world, "rollout", "run", service.shown, "--interval", "0.5"))
        for service in ENDS:
            _until(lambda service=service: world.places(service).route.exists(), f"{service} serves")
            world.played[service] = world.running[service].enter_context(_customers(world, service))
        _until(lambda: _begun(world.rollout(OTHER)), "the other one is under way")
        world.run("rollout", "abort", OTHER.shown)
        _until(lambda: all(_ended(world, service) for service in ENDS), "each has ended")
        yield world


def _train(world: World) -> None:
    """Three runs of two pipelines: two of them are of one model, for two services."""
    command = [sys.executable, str(Path(__file__).parent / "forked_run.py")]
    for number, service in enumerate(ENDS):
        problem = "renewal-two" if service is OTHER else "renewal"
        command += ["--", problem, f"run-{number}", "gbdt,linear", service.shown]
    done = subprocess.run(
        command, env=world.environment, cwd=world.project.empty, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _process(world: World, *arguments: str) -> Iterator[None]:
    log = world.project.temporary / f"{'-'.join(arguments).replace('/', '+')}.log"
    with log.open("wb") as told:
        started = subprocess.Popen(
            world.project.command(*arguments), env=world.environment, cwd=world.project.empty,
            stdout=told, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield
            assert started.poll() is None, log.read_text()
        finally:
            started.terminate()
            started.wait(60.0)


@contextmanager
def _customers(world: World, service: ServiceRef) -> Iterator[Played]:
    """New ones all the time; who stays says so at once."""
    played, over = Played(), threading.Event()

    def call() -> None:
        try:
            _play(world, service, played, over)
        except BaseException as fault:  # noqa: BLE001 - told by the test
            played.broken.append(fault)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        over.set()
        thread.join()


def _play(world: World, service: ServiceRef, played: Played, over: threading.Event) -> None:
    with Client(world.collectors[service]) as outcomes:
        asking = RoutedClient(RouteFile(world.places(service).route))
        for number in count():
            if over.is_set():
                break
            unit, request = f"{service.namespace}-{number}", f"{service}/{number}"
            answer = asking.predict(f"A{number % 100:03d}", unit=unit, request_id=request)
            played.answered += 1
            version = VERSIONS[service].index(int(answer["model_version"]))
            if (number * 7919) % 100 < 100 * STAYS[service][version]:
                when = datetime.now(UTC).isoformat()
                outcomes.send_outcomes([{"id": request, "name": "churned", "request_id": request, "as_of": when}])
        asking.close()


def _begun(state: RolloutState | None) -> bool:
    return state is not None and state.phase is Phase.STEPPING


def _ended(world: World, service: ServiceRef) -> bool:
    with redis.Redis.from_url(world.store.address) as asking:
        world.keys |= {key.decode(errors="replace") for key in asking.scan_iter()}
    assert not world.played[service].broken, world.played[service].broken
    state = world.rollout(service)
    return state is not None and state.phase.ended


def _until(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"{what}: it never came"
        time.sleep(0.2)


def test_each_rollout_comes_to_its_own_end(world: World) -> None:
    states = {service: world.rollout(service) for service in ENDS}
    assert {service: state.phase for service, state in states.items() if state} == ENDS
    assert {service: state.decided_by for service, state in states.items() if state and service is not OTHER} == {
        FIRST: "stays", SECOND: "stays",
    }  # fmt: skip


def test_a_unit_is_assigned_by_each_service_for_itself(world: World) -> None:
    salts = {json.loads(world.places(service).route.read_text())["salt"] for service in ENDS}
    assert len(salts) == len(ENDS)


def test_a_log_holds_the_rows_of_its_own_service_and_of_no_other(world: World) -> None:
    home = world.project.home
    assert {path.relative_to(home / "events").as_posix() for path in (home / "events").glob("*/*")} == {
        str(service) for service in ENDS
    }
    for service in ENDS:
        rows = ds.dataset(home / "events" / str(service) / "exposures", format="parquet").to_table()
        assert set(rows["service"].to_pylist()) == {str(service)}
        assert {name.rpartition("/")[0] for name in rows["request_id"].to_pylist()} == {str(service)}
        assert {name.partition("-v")[0] for name in rows["revision"].to_pylist()} == {service.name}
        outcomes = ds.dataset(home / "events" / str(service) / "outcomes", format="parquet").to_table()
        assert {name.rpartition("/")[0] for name in outcomes["request_id"].to_pylist()} == {str(service)}


def test_a_key_in_redis_is_of_one_service_or_of_one_problem(world: World) -> None:
    """Both kinds in one database; what is drained is gone, so keys were gathered while all of them were at work."""
    ours = {":".join(key.split(":")[1:3]) for key in world.keys if key.startswith("serinus:")}
    assert ours == {*(f"events:{{{service}}}" for service in ENDS), "features:{renewal}", "features:{renewal_two}"}
    rows = {re.sub(r".*(renewal(_two)?)__[0-9a-f]+", r"\1", key, flags=re.DOTALL) for key in world.keys}
    assert {key for key in rows if not key.startswith("serinus:")} == {"renewal", "renewal_two"}


def test_the_features_of_both_problems_are_read_from_one_redis(world: World) -> None:
    project = open_project(world.environment)
    for problem in ("renewal", "renewal-two"):
        assert [one.known for one in look_up(project, Asked(problem, "A000"))] == [True]
        assert [one.known for one in look_up(project, Asked(problem, "nobody"))] == [False]


def test_kpis_are_of_a_services_own_visits(world: World) -> None:
    for service in ENDS:
        figures = [one for one in world.json("kpis", service.shown)["kpis"] if one["name"] == "stays"]
        for version, expected in zip(VERSIONS[service], STAYS[service], strict=True):
            mine = [one for one in figures if one["revision"].startswith(f"{service.name}-v{version}-")]
            requests = sum(one["requests"] for one in mine)
            if requests >= 50:
                mean = sum(one["estimate"] * one["requests"] for one in mine if one["requests"]) / requests
                assert mean == pytest.approx(expected, abs=0.15), (service, version)
        assert {one["revision"].partition("-v")[0] for one in figures} <= {service.name, ""}


def test_the_aliases_belong_to_the_service_that_was_first(world: World) -> None:
    models = registry(open_project(world.environment))
    aliases = {alias: one.version for one in models.versions("renewal") for alias in one.aliases}
    assert aliases == {"champion": 2, "previous": 1, "challenger": 4}
    told = world.json("rollout", "get", SECOND.shown)["registry"]
    assert "belong to" in told["reason"]
    other = {alias: one.version for one in models.versions("renewal-two") for alias in one.aliases}
    assert other == {"champion": 1, "challenger": 2}


def test_one_that_is_taken_away_leaves_the_others(world: World) -> None:
    """Last: one is stopped and its rows and rollouts are removed, while the others serve."""
    world.running[OTHER].close()
    for room in ("services", "events"):
        shutil.rmtree(world.project.home / room / str(OTHER))
    for service in (FIRST, SECOND):
        before = world.played[service].answered
        _until(lambda service=service, before=before: world.played[service].answered > before + 20, "it goes on")
        state = world.rollout(service)
        assert state is not None
        assert state.phase is ENDS[service]
