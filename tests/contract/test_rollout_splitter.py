"""What every splitter must do: the route file of one machine, and the fake that other tests trust."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from serinus.client import BUCKETS, RouteFile, RouteTable
from serinus.core.errors import NotFound
from serinus.core.rollout.route import Route, RouteMode
from serinus.core.words import Arm
from serinus.files import DISK, Disk
from serinus.rollout.local_routes import LocalSplitter
from tests.disks import FullDisk
from tests.unit.rollout.fakes import Splitter as FakeSplitter
from tests.unit.rollout.fakes import World

SALT = "00ff"
OLD, NEW, NEWER = "toy-v1-a", "toy-v2-b", "toy-v3-c"


def route(**changes: Any) -> Route:
    values = {"service": "toy", "rollout": NEW, "number": 1, "stable": OLD, "canary": NEW, "seed": 7, "hold_back": 1}
    return Route.model_validate(values | changes)


ALONE = route(canary="", number=0)
SHADOW = route(mode=RouteMode.SHADOW, share=0.2)
QUARTER, HALF = route(weight=25, number=2), route(weight=50, number=3)
ALL = route(weight=99, number=4)


class Harness(Protocol):
    """A splitter with eyes."""

    def apply(self, route: Route) -> None:
        """Of the splitter."""

    def start(self, *names: str) -> None:
        """Arms that run from now on."""

    def end(self, name: str) -> None:
        """An arm that is gone."""

    def changes(self) -> int:
        """How often the route changed so far."""

    def arm(self, bucket: int) -> str:
        """The revision that answers a bucket."""

    def mirrored(self, bucket: int) -> bool:
        """Whether the bucket is sent to the canary, too."""


@dataclass
class Fake:
    world: World

    def apply(self, route: Route) -> None:
        if route.canary:
            self.world.states[route.rollout] = _written(route)
        FakeSplitter(self.world).apply(route)

    def start(self, *names: str) -> None:
        self.world.arms |= dict.fromkeys(names, 1)

    def end(self, name: str) -> None:
        del self.world.arms[name]

    def changes(self) -> int:
        return len(self.world.routes)

    def arm(self, bucket: int) -> str:
        now = self.world.routes[-1]
        return now.canary if now.canary and now.assigned(bucket) is Arm.CANARY else now.stable

    def mirrored(self, bucket: int) -> bool:
        return self.world.routes[-1].mirrored(bucket)


def _written(route: Route) -> str:
    return json.dumps({"name": route.rollout, "route": route.model_dump(mode="json")})


class Local:
    """Read as a calling application reads it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.addresses = folder / "route.json", dict[str, str]()
        self.reader = RouteFile(self.path)

    def splitter(self, disk: Disk = DISK) -> LocalSplitter:
        return LocalSplitter(self.path, SALT, self._endpoint, lambda: 0.0, disk=disk)

    def _endpoint(self, name: str) -> str:
        if name not in self.addresses:
            raise NotFound(f"no arm {name} runs here")
        return self.addresses[name]

    def apply(self, route: Route) -> None:
        self.splitter().apply(route)

    def start(self, *names: str) -> None:
        self.addresses |= {name: f"http://127.0.0.1/{name}" for name in names}

    def end(self, name: str) -> None:
        del self.addresses[name]

    def table(self) -> RouteTable:
        return self.reader.table()

    def changes(self) -> int:
        return self.table().number

    def arm(self, bucket: int) -> str:
        table = self.table()
        return table.endpoints[table.arm(bucket)].rsplit("/", 1)[1]

    def mirrored(self, bucket: int) -> bool:
        return bucket in self.table().mirrored


@pytest.fixture(params=["memory", "local"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Both arms run."""
    made: Harness = Fake(World()) if request.param == "memory" else Local(tmp_path)
    made.start(OLD, NEW)
    return made


@pytest.mark.parametrize("wanted", [ALONE, SHADOW, QUARTER, HALF, ALL], ids=["alone", "shadow", "25", "50", "99"])
def test_every_bucket_goes_where_the_route_says(harness: Harness, wanted: Route) -> None:
    harness.apply(wanted)
    for bucket in range(BUCKETS):
        assert harness.arm(bucket) == (NEW if wanted.canary and wanted.assigned(bucket) is Arm.CANARY else OLD)
        assert harness.mirrored(bucket) is bool(wanted.canary and wanted.mirrored(bucket))


def test_the_same_route_again_changes_nothing(harness: Harness) -> None:
    for _ in range(3):
        harness.apply(HALF)
    assert harness.changes() == 1


def test_each_other_route_is_a_change(harness: Harness) -> None:
    for number, one in enumerate((ALONE, SHADOW, QUARTER, HALF, ALONE), 1):
        harness.apply(one)
        assert harness.changes() == number


def test_an_arm_that_does_not_run_gets_no_route(harness: Harness) -> None:
    harness.apply(HALF)
    with pytest.raises((NotFound, AssertionError)):
        harness.apply(route(stable=NEW, canary=NEWER, rollout=NEWER, weight=50))
    assert harness.changes() == 1
    assert {harness.arm(bucket) for bucket in range(BUCKETS)} == {OLD, NEW}


def test_a_route_holds_when_an_arm_without_buckets_is_gone(harness: Harness) -> None:
    """After a promotion without a hold-back; the tick that stopped the old arm may be killed and come again."""
    everything = route(weight=100, hold_back=0, number=5)
    harness.apply(everything)
    harness.end(OLD)
    harness.apply(everything)
    assert harness.changes() == 1
    assert {harness.arm(bucket) for bucket in range(BUCKETS)} == {NEW}


class TestLocal:
    """What the file must do besides."""

    def test_each_route_has_a_stamp_of_its_rollout_and_number(self, tmp_path: Path) -> None:
        harness = Local(tmp_path)
        harness.start(OLD, NEW)
        for one in (ALONE, SHADOW, QUARTER):
            harness.apply(one)
            assert harness.table().stamp == f"{one.rollout}.{one.number}"

    def test_an_arm_at_another_address_is_a_change(self, tmp_path: Path) -> None:
        harness = Local(tmp_path)
        harness.start(OLD, NEW)
        harness.apply(HALF)
        harness.addresses[NEW] = "http://127.0.0.1/moved"
        harness.apply(HALF)
        assert harness.changes() == 2
        assert harness.table().endpoints["canary"].endswith("moved")

    def test_another_process_goes_on_with_the_number(self, tmp_path: Path) -> None:
        for number, one in enumerate((HALF, ALONE, HALF), 1):
            harness = Local(tmp_path)
            harness.start(OLD, NEW)
            harness.apply(one)
            assert harness.changes() == number

    def test_a_route_that_cannot_be_written_leaves_the_one_before(self, tmp_path: Path) -> None:
        harness = Local(tmp_path)
        harness.start(OLD, NEW)
        harness.apply(QUARTER)
        before = harness.path.read_bytes()

        with pytest.raises(OSError):
            harness.splitter(FullDisk()).apply(HALF)
        assert harness.path.read_bytes() == before
        harness.apply(HALF)
        assert harness.changes() == 2

    def test_a_reader_never_sees_half_a_route(self, tmp_path: Path) -> None:
        harness = Local(tmp_path)
        harness.start(OLD, NEW)
        harness.apply(ALONE)
        seen, done = list[tuple[int, int]](), threading.Event()
        faults = list[Exception]()

        def look() -> None:
            reader = RouteFile(harness.path)
            while not done.is_set():
                try:
                    table = reader.table()
                except (ValueError, OSError) as fault:
                    faults.append(fault)
                    return
                seen.append((table.number, len(table.canary)))

        thread = threading.Thread(target=look)
        thread.start()
        for number in range(40):
            harness.apply((QUARTER, HALF)[number % 2])
        done.set()
        thread.join()
        assert faults == []
        numbers = [number for number, _ in seen]
        assert numbers == sorted(numbers)
        assert {(number, size) for number, size in seen if number > 1} <= {
            (number + 2, (250, 500)[number % 2]) for number in range(40)
        }
        assert harness.changes() == 41
