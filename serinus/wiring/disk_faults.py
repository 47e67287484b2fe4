"""What keeps a process from its files, as a known fault.

Invariant: a fault of a path or of a disk is told in words. A missing file is none of them: who reads it knows
what that means. Imports nothing that a server does not need.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from serinus.core.errors import SerinusError, Unavailable, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EMFILE, errno.ENFILE)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# Something else is at that path, or nothing can be.
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG)


@contextmanager
def accessible() -> Iterator[None]:
    """What keeps this process from a file as a known fault: `UsageError` when it may not use it or something is in its
    place, `Unavailable` for a disk that is full or broken.
    """
    try:
        yield
    except OSError as fault:
        known = _known(fault)
        if known is None:
            raise
        raise known from fault


def _known(fault: OSError) -> SerinusError | None:
    place = fault.filename or "a file"
    if fault.errno in _FULL:
        return Unavailable("the disk is full", cause=str(fault), hint="make room there, and do it again")
    if fault.errno in _BROKEN:
        return Unavailable(f"the system cannot use {place}", cause=str(fault), hint="mend that, and do it again")
    if fault.errno in _IN_THE_WAY:
        hint = "something else is there, or the name is too long: move it away, or choose another name or home"
        return UsageError(f"{place} cannot be made", cause=str(fault), hint=hint)
    if fault.errno in _FORBIDDEN:
        return UsageError(
            f"no access to {place}",
            cause=f"{fault.strerror}; this process runs as user {os.getuid()}, group {os.getgid()}",
            hint="a volume of a cluster is given to the group of its pods by one pod with fsGroup "
            "(docs/how-to/kubeflow.md); elsewhere SERINUS_HOME names a folder of your own",
        )
    return None
