"""The test bed itself: up, up again, killed in every way, and down to nothing.

These tests start beds of their own, of as many parts as each needs; they need the bed's programs and images.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.bed import control_groups, namespaces
from tests.cluster.bed.places import REPOSITORY, Places, places
from tests.cluster.dump import opened

pytestmark = [pytest.mark.cluster, pytest.mark.bed]
KINDS = ("net", "pid", "ipc", "mnt")
# All of a control plane and a node on which a pod runs.
PARTS = ("kube-proxy", "kube-scheduler", "kube-controller-manager", "image-pause")
# With these, every part that is a process.
MORE = ("coredns", "local-path-provisioner", "kserve-webhooks")
# What needs others before these, so that none ends by itself; and the programs that are not called like their parts.
VICTIMS = (
    "kserve-manager", "local-path-provisioner", "coredns", "kube-proxy", "kubelet", "kube-scheduler",
    "kube-controller-manager", "containerd", "kube-apiserver", "etcd",
)  # fmt: skip
PROGRAMS = {"kserve-manager": "kserve"}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one"},
    "spec": {"containers": [{"name": "one", "image": "registry.k8s.io/pause:3.10"}]},
}


class Bed:
    """A bed below a folder of its own, driven by its commands."""

    def __init__(self, folder: Path) -> None:
        self.environ = os.environ | {"SERINUS_BED_HOME": str(folder)}
        self.places: Places = places(self.environ)

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "tests.cluster.bed", *arguments)

    def run(self, *arguments: str, feed: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=REPOSITORY, env=self.environ, input=feed, capture_output=True, text=True
        )

    def up(self, *more: str) -> None:
        done = self.run("up", *PARTS, *more)
        assert done.returncode == 0, done.stderr

    def kubectl(self, *arguments: str, feed: str | None = None) -> str:
        done = self.run("enter", "kubectl", *arguments, feed=feed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start_pod(self) -> None:
        there = lambda: self.run("enter", "kubectl", "get", "serviceaccount", "default").returncode == 0  # noqa: E731
        wait_until("the namespace has its service account", there)
        self.kubectl("apply", "-f", "-", feed=json.dumps(POD))
        self.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")

    def processes(self, program: str) -> list[psutil.Process]:
        mine = control_groups.members(self.places.control_group)
        found = [one for one in psutil.process_iter(["name"]) if one.pid in mine]
        return [one for one in found if one.info["name"].startswith(program[:15])]

    def compiles(self) -> bool:
        found = False
        for one in self.processes("go"):
            with suppress(psutil.Error):
                found = found or "build" in one.cmdline()
        return found

    def kill(self, program: str) -> None:
        for one in self.processes(program):
            one.send_signal(signal.SIGKILL)

    def first(self) -> psutil.Process:
        found = namespaces.first_process(self.places)
        assert found is not None
        return found


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path / "bed")
    with opened(made.places.logs):
        yield made
    namespaces.end(made.places)


def assert_down_leaves_nothing(bed: Bed, held: frozenset[str] = frozenset()) -> None:
    """`held`: names of namespaces that were the bed's before it was killed."""
    before = namespaces.leftovers(bed.places)
    with held_namespaces(bed) as found:
        spaces = held | found
        done = bed.run("down")
        assert done.returncode == 0, done.stderr
        assert namespaces.leftovers(bed.places) == [], before
        for process in psutil.process_iter(["pid"]):
            assert not spaces & _namespaces(process.pid), process.as_dict(["cmdline"])
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        assert str(bed.places.run) not in mount
    assert not bed.places.run.exists()


@contextmanager
def held_namespaces(bed: Bed) -> Iterator[frozenset[str]]:
    """Names of the bed's namespaces, which nobody else gets while they are held."""
    first = namespaces.first_process(bed.places)
    with ExitStack() as stack:
        if first is not None:
            for kind in KINDS:
                stack.enter_context(Path(f"/proc/{first.pid}/ns/{kind}").open())
        yield _namespaces(first.pid) if first is not None else frozenset()


def _namespaces(pid: int) -> frozenset[str]:
    """Those that a process is in; none once it has ended."""
    try:
        return frozenset(str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS)
    except OSError:
        return frozenset()


def components(bed: Bed, state: str) -> set[str]:
    parts: list[dict[str, Any]] = json.loads(bed.places.status.read_bytes())
    return {one["name"] for one in parts if one["kind"] == "component" and one["state"] == state}


def wait_until(what: str, holds: Any, seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def test_up_twice_is_harmless_and_down_leaves_nothing(bed: Bed) -> None:
    assert bed.run("status").returncode == 1
    bed.up()
    first = bed.first()
    bed.start_pod()
    bed.up()
    assert bed.first() == first
    assert bed.kubectl("get", "pod", "one", "-o", "jsonpath={.status.phase}") == "Running"
    assert bed.run("status").returncode == 0
    more = bed.run("up")
    assert more.returncode == 1
    assert "the bed that is up has only some parts" in more.stderr
    # A shell begins where it was asked for.
    bed.environ["SHELL"] = "pwd"
    assert bed.run("shell").stdout.strip() == str(REPOSITORY)
    # It would keep the bed's network when the bed is gone.
    entered = subprocess.Popen(bed.command("enter", "sleep", "600"), cwd=REPOSITORY, env=bed.environ)
    wait_until("it sleeps", lambda: bed.processes("sleep"))
    assert_down_leaves_nothing(bed)
    assert entered.wait(10) != 0
    assert_down_leaves_nothing(bed)


def test_a_part_that_is_killed_is_named_with_its_last_words(bed: Bed) -> None:
    bed.up(*MORE)
    bed.start_pod()
    assert components(bed, "ready") == set(VICTIMS)
    for one in VICTIMS:
        program = PROGRAMS.get(one, one)
        assert bed.processes(program), one
        bed.kill(program)
    wait_until("all are noticed", lambda: components(bed, "ended") == set(VICTIMS))
    status = bed.run("status")
    assert status.returncode == 1
    for one in VICTIMS:
        assert f"{one} ended with signal 9" in status.stdout
    again = bed.run("up", *PARTS, *MORE)
    assert again.returncode == 1
    assert "ended" in again.stderr
    assert_down_leaves_nothing(bed)


@pytest.mark.parametrize("victim", ["the keeper", "process 1", "a shim"])
def test_down_leaves_nothing_after_a_kill(bed: Bed, victim: str) -> None:
    bed.up()
    bed.start_pod()
    with held_namespaces(bed) as spaces:
        assert len(spaces) == len(KINDS)
        if victim == "process 1":
            bed.first().kill()
        elif victim == "the keeper":
            (keeper,) = (one for one in bed.first().children() if namespaces.KEEPER in one.cmdline())
            keeper.kill()
        else:
            bed.kill("containerd-shim")
        if victim != "a shim":
            wait_until("its processes have ended", lambda: not control_groups.members(bed.places.control_group))
        assert_down_leaves_nothing(bed, spaces)


@pytest.mark.parametrize("after", ["plan.json", "status.json", "kubelet.yaml"])
def test_a_killed_up_can_be_followed_by_another_or_by_down(bed: Bed, after: str) -> None:
    script = subprocess.Popen(bed.command("up", *PARTS), cwd=REPOSITORY, env=bed.environ, stdout=subprocess.DEVNULL)
    wait_until(after, (bed.places.run / after).exists, seconds=120)
    script.kill()
    script.wait()
    if after == "kubelet.yaml":
        bed.up()  # it follows the one that was begun
        assert bed.run("status").returncode == 0
    assert_down_leaves_nothing(bed)


def test_down_ends_what_a_killed_up_was_building(bed: Bed, tmp_path: Path) -> None:
    """From an empty cache it compiles; what it mounts for images is not mounted here, and ends with its processes."""
    bed.environ["SERINUS_BED_CACHE"] = str(tmp_path / "cache")
    with (tmp_path / "said").open("w") as said:
        script = subprocess.Popen(bed.command("up"), cwd=REPOSITORY, env=bed.environ, stdout=said, stderr=said)
    try:
        wait_until("it compiles", bed.compiles, seconds=60)
        assert Path(f"/proc/{script.pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    finally:
        script.kill()
        script.wait()
    assert bed.compiles(), "the compiler goes on by itself"
    assert_down_leaves_nothing(bed)


def test_a_killed_down_can_be_repeated(bed: Bed) -> None:
    bed.up()
    bed.start_pod()
    first = bed.first()
    script = subprocess.Popen(bed.command("down"), cwd=REPOSITORY, env=bed.environ, stdout=subprocess.DEVNULL)
    wait_until("it has begun", lambda: not first.is_running() or script.poll() is not None)
    script.kill()
    script.wait()
    assert_down_leaves_nothing(bed)


def test_a_part_that_cannot_start_is_named(bed: Bed) -> None:
    done = bed.run("up", "no-such-part")
    assert done.returncode == 1
    assert "no part no-such-part" in done.stderr
    assert_down_leaves_nothing(bed)
