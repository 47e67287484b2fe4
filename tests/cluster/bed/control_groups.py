"""The bed's control group in each hierarchy: what it holds is the bed's, wherever its parent has gone.

Invariant: pods are below it, too, so its count of memory is that of the whole cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def require() -> None:
    """Raises `LookupError` on a machine with version 2 alone, on which neither the bed nor its counts would work."""
    if (_ROOT / "cgroup.controllers").exists():
        raise LookupError(
            "the bed needs control groups of version 1 (boot with systemd.unified_cgroup_hierarchy=0); "
            "this machine has version 2 alone"
        )


def folders(group: str) -> list[Path]:
    """In all hierarchies, made or not."""
    return [one / group for one in sorted(_ROOT.iterdir()) if (one / "cgroup.procs").exists()]


def join(group: str) -> None:
    """Puts this process, and what it will start, into the group."""
    for folder in folders(group):
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset has none, and takes nobody until it does
            if (folder / name).exists():
                (folder / name).write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")
        (folder / "cgroup.procs").write_text("0", encoding="ascii")


@contextlib.contextmanager
def within(group: str) -> Iterator[None]:
    """Puts this process, and what it starts, into the group for a while, so that it is ended with the bed.

    Its memory is not counted as the cluster's: it joins the hierarchy `pids` alone.
    """
    folder, before = _ROOT / "pids" / group, _current("pids")
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text("0", encoding="ascii")
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text("0", encoding="ascii")
        with contextlib.suppress(OSError):  # in use: the bed is up
            folder.rmdir()


def _current(hierarchy: str) -> Path:
    """The group that this process is in."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    found = _ROOT / hierarchy / paths[hierarchy].lstrip("/")
    return found if found.exists() else _ROOT / hierarchy


def members(group: str) -> set[int]:
    """Process ids in the group or below it, as seen from here."""
    found: set[int] = set()
    for folder in folders(group):
        for path in folder.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(one) for one in path.read_text(encoding="ascii").split() if one != "0"}
    return found


def memory_bytes(group: str) -> int:
    """Used by the group and all below it, without the file pages that could be dropped at once."""
    folder = _ROOT / "memory" / group
    if not folder.exists():
        return 0
    used = int((folder / "memory.usage_in_bytes").read_text(encoding="ascii"))
    lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    stat = dict(line.split() for line in lines)
    return used - int(stat["total_inactive_file"]) - int(stat["total_active_file"])


def remove(group: str, patience: float = 10.0) -> None:
    """Deletes the empty groups, deepest first; one whose last process is just going is tried again."""
    limit = time.monotonic() + patience
    while any(one.exists() for one in folders(group)) and time.monotonic() < limit:
        for folder in folders(group):
            for path in sorted(folder.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()
        time.sleep(0.05)
