"""The ground floor: how a file, a folder and a lock are made, for every room that keeps something on a disk.

Invariant: nobody else renames files, waits for the disk or locks; this room imports nothing of the others.
"""

from serinus.files.disk import DISK, Disk
from serinus.files.lock import LockFile, Taken, is_locked, locked

__all__ = ["DISK", "Disk", "LockFile", "Taken", "is_locked", "locked"]
