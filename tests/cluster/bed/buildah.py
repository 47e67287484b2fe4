"""Buildah with a storage of its own: builds images without a daemon, measures them, and writes them to archives.

Invariant: everything that it keeps is below one folder, and nothing is left mounted there when a `with` block ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LAST = 4000


class BuildFailed(Exception):
    """An image could not be made; the text is the end of what the build said."""


@dataclass(frozen=True)
class Buildah:
    """`folder` holds layers and state. Needs root and no other privilege: builds run in a plain chroot."""

    folder: Path

    @property
    def _temporary(self) -> Path:
        """Copies of layers under way, which would fill a small /tmp."""
        return self.folder / "tmp"

    def __enter__(self) -> Self:
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a build that was killed
        self._temporary.mkdir(parents=True)
        return self

    def __exit__(self, *raised: object) -> None:
        self.run("umount", "--all")
        # The storage mounts itself, too.
        unmount(self.folder)

    def run(self, *arguments: str) -> str:
        """Standard output of a command. Raises `BuildFailed`."""
        done = self._try(arguments)
        if done.returncode:
            said = (done.stdout + done.stderr)[-_LAST:]
            raise BuildFailed(f"buildah {' '.join(arguments[:3])} ended with {done.returncode}:\n{said}")
        return done.stdout.strip()

    def has(self, reference: str) -> bool:
        """Whether the storage knows the image."""
        return self._try(("inspect", "--type", "image", reference)).returncode == 0

    def build(self, reference: str, dockerfile: Path, context: Path, *, target: str = "", **arguments: str) -> str:
        """What the build said; layers that an earlier build made are taken from there."""
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--target={target}"] if target else []
        file = f"--file={dockerfile}"
        return self.run("bud", "--isolation=chroot", "--layers", f"--tag={reference}", file, *options, str(context))

    def from_root(self, reference: str, root: Path, config: Mapping[str, str]) -> None:
        """An image of one layer with the files of `root`; `config` as options of `buildah config`."""
        container = self.run("from", "scratch")
        try:
            self.run("add", "--quiet", container, str(root), "/")
            self.run("config", *(f"--{name}={value}" for name, value in config.items()), container)
            self.run("commit", "--quiet", container, reference)
        finally:
            self.run("rm", container)

    def forget(self) -> None:
        """Drops what killed builds left, and the layers of earlier contents: those of no image that has a name now."""
        self.run("rm", "--all")
        self.run("rmi", "--prune")

    def unpacked_bytes(self, reference: str) -> int:
        """The sum of the sizes of all files that a container of the image sees, hard links once."""
        container = self.run("from", "--pull-never", reference)
        try:
            return tree_bytes(Path(self.run("mount", container)))
        finally:
            self.run("rm", container)

    def push(self, reference: str, archive: Path) -> str:
        """Writes a Docker archive, whole or not at all; the digest of the manifest."""
        aside, digest = archive.with_suffix(".part"), archive.with_suffix(".digest")
        aside.unlink(missing_ok=True)
        self.run("push", "--quiet", f"--digestfile={digest}", reference, f"docker-archive:{aside}:{reference}")
        aside.rename(archive)
        found = digest.read_text(encoding="utf-8")
        digest.unlink()
        return found

    def _try(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        places = (f"--root={self.folder / 'root'}", f"--runroot={self.folder / 'run'}", "--storage-driver=overlay")
        environment = os.environ | {"TMPDIR": str(self._temporary)}
        command = ("buildah", *places, *arguments)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def mounts_below(folder: Path) -> list[Path]:
    """Mount points in `folder`, as this process sees them."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = (Path(line.split()[1].replace("\\040", " ")) for line in lines)
    return [point for point in points if point.is_relative_to(folder)]


def unmount(folder: Path) -> None:
    """Ends the mounts in `folder`, deepest first."""
    for point in sorted(mounts_below(folder), reverse=True):
        subprocess.run(("umount", "--lazy", str(point)), check=False, capture_output=True)


def tree_bytes(root: Path) -> int:
    """Sum of the sizes of the files and links below `root`, hard links once, folders not counted."""
    sizes: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            state = Path(folder, name).lstat()
            sizes[state.st_dev, state.st_ino] = state.st_size
    return sum(sizes.values())
