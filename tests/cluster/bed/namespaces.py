"""Launches the keeper in namespaces of its own, enters them, and ends them with all that is in them.

Invariant: which process keeps a bed is read from the list of processes, never from a file that may be old; what `end`
leaves behind it names.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.cluster.bed import control_groups
from tests.cluster.bed.buildah import mounts_below, unmount
from tests.cluster.bed.places import REPOSITORY, Places

KEEPER = "tests.cluster.bed.keeper"
# `tini` is process 1: it reaps what pods leave, and ends with the keeper.
_SPACES = ("unshare", "--fork", "--pid", "--mount-proc", "--mount", "--net", "--ipc", "--propagation", "private")


def launch(places: Places) -> subprocess.Popen[bytes]:
    """Starts the keeper; its words go to keeper.log."""
    command = (*_SPACES, "tini", "-g", "--", sys.executable, "-m", KEEPER, str(places.run))
    with (places.logs / "keeper.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def first_process(places: Places) -> psutil.Process | None:
    """Process 1 of the bed, seen from outside; None when there is none."""
    for one in psutil.process_iter(["cmdline"]):
        command = one.info["cmdline"] or []
        if command[:1] == ["tini"] and command[-2:] == [KEEPER, str(places.run)]:
            return one
    return None


def entering(places: Places, *, wholly: bool = False) -> tuple[str, ...]:
    """The beginning of a command that runs here, in the bed's network or wholly in its namespaces.

    Raises `LookupError` when no bed is up.
    """
    first = first_process(places)
    if first is None:
        raise LookupError("no cluster is up: make cluster-up")
    spaces = ("--net", "--mount", "--pid", "--ipc") if wholly else ("--net",)
    return ("nsenter", "--target", str(first.pid), *spaces, f"--wdns={Path.cwd()}", "--")


def end(places: Places, patience: float = 20.0) -> list[str]:
    """Ends the bed, whatever state it is in, and deletes its folder; what is left after all, in words.

    A folder that holds something and is no bed's is left as it is, and told.
    """
    limit = time.monotonic() + patience
    # Again and again: what is killed may have started others since they were listed.
    while (left := _own_processes(places)) and time.monotonic() < limit:
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        time.sleep(0.05)
    unmount(places.run)
    control_groups.remove(places.control_group)
    # SERINUS_BED_HOME may name anything: only what has a bed's mark, or holds nothing, is taken away.
    if places.plan.exists() or not any(places.run.glob("*")):
        _delete(places)
    return leftovers(places)


def leftovers(places: Places) -> list[str]:
    """Processes, mounts, control groups and files of the bed; its links and namespaces end with its processes."""
    found = [f"process {one.pid}: {' '.join(_command(one))[:120]}" for one in _own_processes(places)]
    found += [f"mount {one}" for one in mounts_below(places.run)]
    found += [f"control group {one}" for one in control_groups.folders(places.control_group) if one.exists()]
    whose = "" if places.plan.exists() else ", which is not a bed's: it has no plan.json"
    return found + ([f"folder {places.run}{whose}"] if places.run.exists() else [])


def _own_processes(places: Places) -> list[psutil.Process]:
    """Process 1 and its helpers, and whatever is in the control group but for this process and who waits for it."""
    mine = {os.getpid(), *(one.pid for one in psutil.Process().parents())}
    members = control_groups.members(places.control_group) - mine
    run = str(places.run)
    found = []
    for one in psutil.process_iter(["pid"]):
        command = _command(one)
        keeper = KEEPER in command and command[-1] == run
        if (one.pid in members or keeper) and _alive(one):
            found.append(one)
    return found


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _delete(places: Places) -> None:
    """Everything in the folder, and its mark last: killed in between, it can be done again."""
    for path in [one for one in places.run.glob("*") if one != places.plan]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    if list(places.run.glob("*")) == [places.plan]:
        shutil.rmtree(places.run)
    else:  # it was empty, or something in it cannot be deleted
        with contextlib.suppress(OSError):
            places.run.rmdir()
