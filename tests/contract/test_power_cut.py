"""What outlasts a loss of power: the old or the new after any operation of a change, and the new once it is told.

Every keeper of something that decides is changed once on a disk that knows what of it would be left, and is then read
from that by another process's view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from serinus.core.calibration import Calibration
from serinus.core.events import Outcome, Stream
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.memory import Wanted
from serinus.core.rollout.route import Route
from serinus.core.rollout.spec import Intents, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.files import DISK, Disk
from serinus.model.bundle import FeatureSource, Golden, Lineage, Manifest, read_bundle, write_bundle
from serinus.model.scorers import LinearScorer
from serinus.model.store import FolderBundleStore
from serinus.rollout.local_routes import LocalSplitter
from serinus.rollout.local_store import LocalRollouts
from serinus.wiring.deployer import FileDeployer
from tests.disks import PowerDisk
from tests.unit.rollout.fakes import ONE, THREE, TWO, World

SPEC: RolloutSpec = World().make(Wanted(TWO, ONE), ONE)
OTHER = SPEC.model_copy(update={"name": THREE.name, "created_at": SPEC.created_at + 1})
FIRST = RolloutState.first(SPEC)
TOY = ServiceRef("default", "toy")


@dataclass(frozen=True)
class Keeper:
    """Something kept below a folder: how it comes to be, one change of it, and what is read of it."""

    begin: Callable[[Path, Disk], object]
    change: Callable[[Path, Disk], object]
    read: Callable[[Path], object]


def rollouts(folder: Path, disk: Disk = DISK) -> LocalRollouts:
    return LocalRollouts(folder / "services/default/toy/rollouts", disk=disk)


def approve(intents: Intents) -> Intents:
    return intents.model_copy(update={"approved": (1,)})


def deployer(folder: Path, disk: Disk = DISK) -> FileDeployer:
    return FileDeployer(folder / "services", new_salt=lambda _: "salt", disk=disk)


def route(folder: Path, disk: Disk, weight: int) -> None:
    wanted = Route(
        service=TOY, rollout=TWO.name, number=weight, stable=ONE.name, canary=TWO.name, weight=weight, seed=1,
        hold_back=1,
    )  # fmt: skip
    path = folder / "services/default/toy/route.json"
    LocalSplitter(path, "salt", lambda name: f"http://{name}", lambda: 0.0, disk=disk).apply(wanted)


def put(folder: Path, disk: Disk, candidate: str) -> None:
    scorer = LinearScorer(np.zeros(1), np.ones(1), np.ones(1), 0.0)
    manifest = Manifest(
        problem="toy", problem_kind="scoring", entity="account", item=None, candidate=candidate, scorer=scorer.kind,
        inputs=({"name": "x"},), features=FeatureSource(service="toy", service_hash="0" * 64, columns=()),
        calibration=Calibration(sampling_rate=1.0), profile=(), golden=Golden(rows=(), probabilities=()),
        lineage=Lineage(),
    )  # fmt: skip
    with TemporaryDirectory() as made:
        write_bundle(Path(made), manifest, scorer)
        FolderBundleStore(folder / "bundles", disk=disk).put("toy", Path(made))


def bundles(folder: Path) -> list[str]:
    """Their candidates, once the content of each was found to have the hash in its name."""
    store, found = FolderBundleStore(folder / "bundles"), (folder / "bundles/toy").glob("[!.]*")
    return sorted(read_bundle(store.get("toy", one.name)).manifest.candidate for one in found)


def rows(*numbers: int) -> list[Outcome]:
    return [Outcome(str(one), "bought", f"r{one}", "u", "i", 1.0, 1.0, 2.0) for one in numbers]


def log(folder: Path, disk: Disk = DISK) -> ParquetEventLog:
    return ParquetEventLog(folder / "events", disk=disk)


def append(folder: Path, disk: Disk, *numbers: int) -> None:
    log(folder, disk).append(Stream.OUTCOMES, rows(*numbers))


def three_segments(folder: Path, disk: Disk) -> None:
    for number in range(3):
        append(folder, disk, number)


def compact(folder: Path, disk: Disk) -> None:
    found = log(folder, disk)
    found.compact(Stream.OUTCOMES, found.segments(Stream.OUTCOMES))


def logged(folder: Path) -> list[str]:
    """Ids, each as often as it is listed; a segment that cannot be read is a fault."""
    found = log(folder)
    ids = [name for one in found.segments(Stream.OUTCOMES) for name in found.read(one)["id"].to_pylist()]
    assert found.damage().torn_files == 0
    return sorted(ids)


def nothing(folder: Path, disk: Disk) -> None:
    """There was nothing before."""


KEEPERS = {
    "state": Keeper(
        lambda folder, disk: rollouts(folder, disk).create(SPEC),
        lambda folder, disk: rollouts(folder, disk).save(FIRST.changed(looks=1), FIRST),
        lambda folder: rollouts(folder).state(SPEC.name),
    ),
    "first rollout": Keeper(
        nothing,
        lambda folder, disk: rollouts(folder, disk).create(SPEC),
        lambda folder: rollouts(folder).names(),
    ),
    "next rollout": Keeper(
        lambda folder, disk: rollouts(folder, disk).create(SPEC),
        lambda folder, disk: rollouts(folder, disk).create(OTHER),
        lambda folder: rollouts(folder).names(),
    ),
    "intent": Keeper(
        lambda folder, disk: rollouts(folder, disk).create(SPEC),
        lambda folder, disk: rollouts(folder, disk).intend(SPEC.name, approve),
        lambda folder: rollouts(folder).intents(SPEC.name),
    ),
    "route": Keeper(
        lambda folder, disk: route(folder, disk, 1),
        lambda folder, disk: route(folder, disk, 50),
        lambda folder: (folder / "services/default/toy/route.json").read_text(),
    ),
    "first service": Keeper(
        nothing,
        lambda folder, disk: deployer(folder, disk).want(TOY, ModelRef("toy", 1), "file:///1"),
        lambda folder: deployer(folder).service(TOY),
    ),
    "service": Keeper(
        lambda folder, disk: deployer(folder, disk).want(TOY, ModelRef("toy", 1), "file:///1"),
        lambda folder, disk: deployer(folder, disk).want(TOY, ModelRef("toy", 2), "file:///2"),
        lambda folder: deployer(folder).service(TOY),
    ),
    "first bundle": Keeper(nothing, lambda folder, disk: put(folder, disk, "1"), bundles),
    "next bundle": Keeper(
        lambda folder, disk: put(folder, disk, "1"), lambda folder, disk: put(folder, disk, "2"), bundles
    ),
    "first events": Keeper(nothing, lambda folder, disk: append(folder, disk, 1, 2), logged),
    "next events": Keeper(
        lambda folder, disk: append(folder, disk, 1, 2), lambda folder, disk: append(folder, disk, 3, 4), logged
    ),
    "merged events": Keeper(three_segments, compact, logged),
}


@pytest.fixture(params=KEEPERS)
def keeper(request: pytest.FixtureRequest) -> Keeper:
    return KEEPERS[request.param]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerDisk]:
    made = PowerDisk(tmp_path / "home")
    yield made
    made.close()


def test_power_lost_at_any_moment_leaves_the_old_or_the_new_and_the_new_once_it_is_told(
    keeper: Keeper, disk: PowerDisk, tmp_path: Path
) -> None:
    keeper.begin(disk.root, disk)
    disk.moments()
    before = keeper.read(disk.now()[0].put(tmp_path / "before"))
    keeper.change(disk.root, disk)
    moments, told = disk.moments(), disk.now()
    after = keeper.read(disk.root)
    assert len(moments) > 2
    for number, left in enumerate(moments):
        assert keeper.read(left.put(tmp_path / f"then-{number}")) in (before, after), number
    for number, left in enumerate(told):
        assert keeper.read(left.put(tmp_path / f"now-{number}")) == after, number


def test_a_file_that_is_replaced_without_waiting_for_the_disk_would_be_seen(disk: PowerDisk, tmp_path: Path) -> None:
    """Of the disk that loses power: how durable files were written before, and how a careless one would write them."""
    path = disk.root / "state"
    disk.replace(path, "old")
    for synced, seen in (("file", {"old", "new"}), ("", {"old", "", "new"})):
        disk.replace(path, "old")
        fresh = disk.root / "fresh"
        fresh.write_text("new")
        if synced:
            disk.sync(fresh)
        fresh.rename(path)
        left = {one.put(tmp_path / f"{synced}-{number}") / "state" for number, one in enumerate(disk.now())}
        assert {one.read_text() for one in left} == seen
