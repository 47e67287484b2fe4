"""What is in an image: its configuration and its files, read from a Docker archive.

Invariant: files are those that a container sees, later layers over earlier ones; nothing is unpacked or run.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True)
class Contents:
    """`config` as the image specification has it; `files` by their path, without a leading slash, in bytes."""

    config: dict[str, Any]
    files: dict[str, int]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its processes."""
        return dict(one.split("=", 1) for one in self.config["Env"])

    def commands(self) -> set[str]:
        """Names of the files in folders of programs."""
        parts = (path.split("/") for path in self.files)
        return {names[-1] for names in parts if names[-2:-1] in (["bin"], ["sbin"])}

    @property
    def size(self) -> int:
        """Bytes of all files; hard links count once, links to another path nothing."""
        return sum(self.files.values())


def contents(archive: Path) -> Contents:
    """Of the one image in the archive."""
    with tarfile.open(archive) as packed:
        (manifest,) = json.load(_member(packed, "manifest.json"))
        config = json.load(_member(packed, manifest["Config"]))["config"]
        files: dict[str, int] = {}
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=_member(packed, name)) as layer:
                lay_over(files, layer)
    return Contents(config, files)


def lay_over(files: dict[str, int], layer: Iterable[tarfile.TarInfo]) -> None:
    """Adds a layer; what its whiteouts name goes."""
    members = [(one.name.removeprefix("./"), one) for one in layer]
    for path, _ in members:
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            _remove_below(files, folder)
        elif name.startswith(_WHITEOUT):
            hidden = f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
            files.pop(hidden, None)
            _remove_below(files, hidden)
    for path, one in members:
        if not one.isdir() and _WHITEOUT not in path.rpartition("/")[2]:
            files[path] = one.size


def _remove_below(files: dict[str, int], folder: str) -> None:
    for path in [path for path in files if path.startswith(f"{folder}/")]:
        del files[path]


def _member(packed: tarfile.TarFile, name: str) -> Any:
    found = packed.extractfile(packed.getmember(name))
    assert found is not None, f"{name} is not a file"
    return found
