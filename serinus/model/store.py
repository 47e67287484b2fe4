"""A bundle store on a file system (also a mounted volume): one immutable sub-folder a model and content hash.

Invariant: a bundle is visible under `<model>/<hash>` only when it is whole and on disk; putting the same bundle
twice is harmless, and what is stored is never changed.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from serinus.core.errors import BundleError, NotFound
from serinus.files import DISK, Disk
from serinus.model.bundle import MANIFEST, content_hash


class FolderBundleStore:
    """`Store` on a file system."""

    def __init__(self, root: Path, *, disk: Disk = DISK) -> None:
        self.root, self._disk = root.resolve(), disk

    def put(self, model: str, folder: Path) -> str:
        """See `Store`."""
        digest = content_hash(folder)
        target = self.root / model / digest
        if not target.exists():
            self._publish(folder, target)
        self._disk.sync(target.parent)  # whoever published it may have been killed before
        _require_content(target, digest)  # a version of what was changed there would be registered, and never served
        return digest

    def get(self, model: str, digest: str) -> Path:
        """See `Store`."""
        folder = self.root / model / digest
        if not self.has(model, digest):
            raise NotFound(f"no bundle at {folder}", hint="`serinus model list` shows the registered versions")
        _require_content(folder, digest)
        return folder

    def has(self, model: str, digest: str) -> bool:
        """See `Store`."""
        return (self.root / model / digest / MANIFEST).is_file()

    def address(self, model: str, digest: str) -> str:
        """See `Store`."""
        return f"file://{self.root / model / digest}"

    def _publish(self, source: Path, target: Path) -> None:
        # Another process may publish the same content first; identical by name.
        with suppress(FileExistsError), self._disk.new_folder(target) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)


def _require_content(folder: Path, digest: str) -> None:
    if not (folder / MANIFEST).is_file() or content_hash(folder) != digest:
        raise BundleError(
            f"the bundle at {folder} has changed since it was stored",
            cause="its content hash differs",
            hint="delete that folder, and put a copy there, or train again: the same code and data make the same",
        )
