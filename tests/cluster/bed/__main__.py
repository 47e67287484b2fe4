"""`python -m tests.cluster.bed up|down|status|shell|enter|build|program`.

Invariant: each command can be given in any state of the bed, and says what it found.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster.bed import control_groups, namespaces
from tests.cluster.bed.buildah import BuildFailed, unmount
from tests.cluster.bed.gateway import CLASS
from tests.cluster.bed.images import Images, build, own_recipes, program_recipes
from tests.cluster.bed.node import importing
from tests.cluster.bed.parts import last_lines
from tests.cluster.bed.places import HIDDEN, REPOSITORY, Places, places
from tests.cluster.bed.plan import Plan
from tests.cluster.bed.programs import PROGRAMS, build_program, build_programs
from tests.cluster.bed.site import run

# Debian's packages of what is not built here, by the command that tells whether it is there.
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "tini": "tini",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
_PATIENCE = 300.0
_MOUNTS_ARE_OWN = "SERINUS_BED_MOUNTS_ARE_OWN"


def main() -> int:
    """The exit code: 0 as asked, 1 when a part is missing, 2 for a wrong command."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.bed", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "shell", "enter", "build", "program"))
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        help="up: parts to start with all that they need (all when none); enter: a command; program: its name",
    )
    asked = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the bed needs root: it makes namespaces, mounts and links")
    try:
        return _done_as(asked.command, asked.rest)
    except (BuildFailed, LookupError, RuntimeError, subprocess.CalledProcessError) as fault:
        return _fail("the bed cannot be made:", [str(fault)])


def _done_as(command: str, rest: list[str]) -> int:
    if command in ("up", "build"):
        control_groups.require()
        _own_mounts(command, rest)
    if command == "up":
        return _up(places(), rest)
    if command == "enter":
        return _enter(places(), rest)
    if command == "program":
        return _program(places(), rest)
    return {"down": _down, "status": _status, "build": _build, "shell": _shell}[command](places())


def _own_mounts(command: str, rest: list[str]) -> None:
    """Goes on in a mount namespace of its own: what builds mount there ends with their processes, also when killed."""
    if _MOUNTS_ARE_OWN not in os.environ:
        os.environ[_MOUNTS_ARE_OWN] = "1"
        spaces = ("unshare", "--mount", "--propagation", "private")
        os.execvp(spaces[0], (*spaces, sys.executable, "-m", "tests.cluster.bed", command, *rest))


def _up(where: Places, wanted: list[str]) -> int:
    began = time.monotonic()
    with _alone(where):
        running = namespaces.first_process(where) is not None
        left = [] if running else namespaces.end(where)
        if left:
            return _fail("something of an earlier bed is left:", left)
        with control_groups.within(where.control_group):
            plan = replace(_plan(where), wanted=tuple(wanted))
            if not running:
                _launch(plan)
            code = _follow(where) or (_renew(plan) if running else 0)
    _say(f"{'up' if code == 0 else 'not up'} after {time.monotonic() - began:.0f} s; KUBECONFIG={where.kubeconfig}")
    return code


def _launch(plan: Plan) -> None:
    plan.places.run.mkdir(parents=True, exist_ok=True)
    plan.write()
    plan.places.logs.mkdir()
    namespaces.launch(plan.places)


def _renew(plan: Plan) -> int:
    """Brings the images of a bed that was up already to what the sources are now."""
    old = Plan.read(plan.places.run)
    lacking = set(plan.wanted) - {one["name"] for one in _parts(plan.places)}
    if old.wanted and (lacking or not plan.wanted):
        return _fail("the bed that is up has only some parts:", [*old.wanted, "make cluster-down, then up"])
    if old.programs != plan.programs:
        return _fail("the bed that is up runs other programs than are pinned now:", ["make cluster-down, then up"])
    for name, archive in plan.images.items():
        if old.images[name] != archive:
            run(*namespaces.entering(plan.places, wholly=True), *importing(archive))
            _say(f"  {name} anew")
    replace(old, images=plan.images).write()
    return 0


def _plan(where: Places) -> Plan:
    _install()
    go = Path(shutil.which("go") or "").resolve()
    _require_visible(REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), go, where.cache, where.run)
    # One waits for the network while the other compiles.
    with ThreadPoolExecutor(1) as beside:
        own = beside.submit(build, own_recipes(), where.cache, _say)
        programs = build_programs(where.programs, _say)
    images = Images((*own.result(), *build(program_recipes(programs), where.cache, _say)))
    return Plan(where, programs, images.archives, images.envoy, images.helper)


def _build(where: Places) -> int:
    began = time.monotonic()
    with _alone(where), control_groups.within(where.control_group):
        _plan(where)
    return _done(f"all programs and images are there after {time.monotonic() - began:.0f} s")


def _program(where: Places, names: list[str]) -> int:
    """The path of one binary, on standard output alone."""
    wanted = [one for one in PROGRAMS if [one.name] == names]
    if not wanted:
        return _fail("no such program; there are:", [one.name for one in PROGRAMS])
    with _alone(where):
        return _done(str(build_program(wanted[0], where.programs, _aside)))


def _follow(where: Places) -> int:
    """Tells of each part as it gets ready, until all are or one has failed."""
    told: set[str] = set()
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        parts = _parts(where)
        for one in parts:
            if one["state"] == "ready" and one["name"] not in told:
                told.add(one["name"])
                _say(f"  {one['name']} {one['seconds']:.1f} s")
        bad = [one for one in parts if one["state"] in ("failed", "ended")]
        if bad:
            return _fail(f"{bad[0]['name']} {bad[0]['state']}:", [bad[0]["message"]])
        if parts and len(told) == len(parts):
            return 0
        if namespaces.first_process(where) is None and time.monotonic() > limit - _PATIENCE + 2:
            return _fail("the keeper has ended:", [last_lines(where.logs / "keeper.log")])
        time.sleep(0.2)
    waiting = [one["name"] for one in _parts(where) if one["state"] != "ready"]
    return _fail("not ready in time:", waiting)


def _down(where: Places) -> int:
    with _alone(where):
        left = namespaces.end(where)
    return _fail("left behind:", left) if left else _done("nothing of the bed is left")


def _status(where: Places) -> int:
    if namespaces.first_process(where) is None:
        left = namespaces.leftovers(where)
        return _fail("no cluster is up" + (", but this is left:" if left else ""), left)
    parts = _parts(where)
    for one in parts:
        _say(f"{one['name']:28s} {one['kind']:10s} {one['state']:9s} {one['seconds']:6.1f} s")
        if one["message"]:
            _say(one["message"])
    memory = control_groups.memory_bytes(where.control_group) / 2**30
    _say(f"memory {memory:.2f} GiB; gateway class {CLASS}; KUBECONFIG={where.kubeconfig}")
    return 0 if parts and all(one["state"] == "ready" for one in parts) else 1


def _shell(where: Places) -> int:
    return _in_bed(where, [os.environ.get("SHELL", "/bin/bash")], wholly=True)


def _enter(where: Places, command: list[str]) -> int:
    return _in_bed(where, command[1:] if command[:1] == ["--"] else command, wholly=False)


def _in_bed(where: Places, command: list[str], *, wholly: bool) -> int:
    try:
        prefix = namespaces.entering(where, wholly=wholly)
    except LookupError as fault:
        return _fail(str(fault), [])
    programs = Plan.read(where.run).programs
    path = [*(str(programs[name].parent) for name in ("kubectl", "helm")), os.environ["PATH"]]
    environment = os.environ | {"KUBECONFIG": str(where.kubeconfig), "PATH": ":".join(path)}
    # In the bed's control group, so that what holds its network open is ended with it.
    with control_groups.within(where.control_group):
        return subprocess.run((*prefix, *command), env=environment, check=False).returncode


def _parts(where: Places) -> list[dict[str, Any]]:
    return list(json.loads(where.status.read_bytes())) if where.status.exists() else []


def _install() -> None:
    if shutil.which("go") is None:
        raise SystemExit("the bed's programs are built with Go, which is not on the PATH")
    missing = sorted({package for command, package in _PACKAGES.items() if shutil.which(command) is None})
    if missing:
        _say(f"installing {', '.join(missing)}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        waits = ("-o", "DPkg::Lock::Timeout=300")
        for command in (("apt-get", "update", "-qq"), ("apt-get", "install", "-y", "-qq", *waits, *missing)):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _require_visible(*paths: Path) -> None:
    """Raises `LookupError` when the bed's own folders would hide what its keeper runs or reads."""
    for path in paths:
        over = [one for one in HIDDEN if path.is_relative_to(one)]
        if over:
            raise LookupError(f"{path} cannot be seen in the bed, which has a folder of its own over {over[0]}")


@contextmanager
def _alone(where: Places) -> Iterator[None]:
    """One `up`, `down` or `build` at a time."""
    where.cache.mkdir(parents=True, exist_ok=True)
    with (where.cache / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        unmount(where.cache / "images" / "storage")  # what a killed build left; nobody builds now
        yield


def _fail(headline: str, details: list[str]) -> int:
    sys.stderr.write("\n".join([headline, *details]) + "\n")
    return 1


def _done(text: str) -> int:
    _say(text)
    return 0


def _aside(text: str) -> None:
    """Where standard output is what was asked for."""
    sys.stderr.write(f"{text}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
