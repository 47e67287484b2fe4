"""Disks that go wrong: one that is full, one that fails or ends its process at an operation, one that loses power.

Invariant: up to its fault each does what the machine's own does. The one that loses power looks at the files
themselves, so it sees who goes round it as well.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from serinus.files import Disk


class FullDisk(Disk):
    """No space left while `full`."""

    full = True

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            super().write(path, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(path, data)


class StepDisk(Disk, ABC):
    """Every operation is a step; a subclass says what becomes of it."""

    @abstractmethod
    def step(self, run: Callable[[], None]) -> None:
        """One operation."""

    def write(self, path: Path, data: bytes) -> None:
        self.step(lambda: Disk.write(self, path, data))

    def sync(self, path: Path) -> None:
        self.step(lambda: Disk.sync(self, path))

    def rename(self, source: Path, target: Path) -> None:
        self.step(lambda: Disk.rename(self, source, target))

    def unlink(self, path: Path) -> None:
        self.step(lambda: Disk.unlink(self, path))

    def mkdir(self, path: Path) -> None:
        self.step(lambda: Disk.mkdir(self, path))


class FailingDisk(StepDisk):
    """The operation with number `at` is not done, and raises EIO."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def step(self, run: Callable[[], None]) -> None:
        mine, self.count = self.count == self.at, self.count + 1
        if mine:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        run()


class Killed(BaseException):
    """Stands for the end of the process."""


class KillingDisk(StepDisk):
    """The operation with number `at` is the last, done (`after`) or not; what its process tries then is not done."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def step(self, run: Callable[[], None]) -> None:
        mine, self.count = self.count == self.at, self.count + 1
        if self.count <= self.at or (mine and self.after):
            run()
        if self.count > self.at:
            raise Killed


class PowerDisk(StepDisk):
    """Knows what is left of `root` when power is lost after any of its operations.

    Lasting are the bytes of a file and the names in a folder as of their last `sync`. Of the others, names may be there
    without their bytes, and all may be there.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []
        self._moments: list[Left] = []
        for path in (root, *root.rglob("*")):
            self._keep(path)

    def step(self, run: Callable[[], None]) -> None:
        run()
        self._moments += self.now()

    def sync(self, path: Path) -> None:
        self._keep(path)
        super().sync(path)

    def now(self) -> list[Left]:
        """What may be left at this moment."""
        return [self._lasting(), self._named(lost=True), self._named(lost=False)]

    def moments(self) -> list[Left]:
        """What may have been left at any moment since the last call, without repetitions."""
        found, self._moments = self._moments, []
        return [one for number, one in enumerate(found) if one not in found[:number]]

    def _keep(self, path: Path) -> None:
        # Held open, so that no later file gets its inode's number.
        self._held.append(os.open(path, os.O_RDONLY))
        node = path.stat().st_ino
        if path.is_dir():
            self._names[node] = {one.name: (one.stat().st_ino, one.is_dir()) for one in path.iterdir()}
        else:
            self._bytes[node] = path.read_bytes()

    def _lasting(self) -> Left:
        return Left(dict(self._below(Path(), self.root.stat().st_ino)))

    def _below(self, at: Path, node: int) -> Iterator[tuple[Path, bytes | None]]:
        for name, (child, is_folder) in self._names.get(node, {}).items():
            yield at / name, None if is_folder else self._bytes.get(child, b"")
            if is_folder:
                yield from self._below(at / name, child)

    def _named(self, lost: bool) -> Left:
        found: dict[Path, bytes | None] = {}
        for path in self.root.rglob("*"):
            data = None if path.is_dir() else path.read_bytes()
            unsafe = data is not None and self._bytes.get(path.stat().st_ino) != data
            found[path.relative_to(self.root)] = b"" if lost and unsafe else data
        return Left(found)

    def close(self) -> None:
        """Lets go of what it held open."""
        while self._held:
            os.close(self._held.pop())


class Left:
    """Files with their bytes, and folders (None), by path below a root."""

    def __init__(self, files: dict[Path, bytes | None]) -> None:
        self.files = files

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Left) and self.files == other.files

    __hash__ = None  # type: ignore[assignment]

    def visible(self) -> dict[str, bytes | None]:
        """Without what hides: left-overs of a writer that did not get to its end."""
        return {
            str(path): data
            for path, data in sorted(self.files.items())
            if not any(part.startswith(".") for part in path.parts)
        }

    def put(self, folder: Path) -> Path:
        """Makes them below a folder, which is returned."""
        for path, data in self.files.items():
            target = folder / path
            (target if data is None else target.parent).mkdir(parents=True, exist_ok=True)
            if data is not None:
                target.write_bytes(data)
        return folder
