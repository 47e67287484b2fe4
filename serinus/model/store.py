"""A bundle store on a file system (also a mounted volume): one immutable sub-folder a model and content hash.

Invariant: a bundle is visible under `<model>/<hash>` only when it is whole, because it is written beside and renamed;
putting the same bundle twice is harmless, and what is stored is never changed.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from serinus.core.errors import BundleError, NotFound
from serinus.model.bundle import MANIFEST, content_hash


class FolderBundleStore:
    """`Store` on a file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def put(self, model: str, folder: Path) -> str:
        """See `Store`."""
        digest = content_hash(folder)
        target = self.root / model / digest
        if not target.exists():
            self._publish(folder, target)
        return digest

    def get(self, model: str, digest: str) -> Path:
        """See `Store`."""
        folder = self.root / model / digest
        if not self.has(model, digest):
            raise NotFound(f"no bundle at {folder}", hint="`serinus model list` shows the registered versions")
        if content_hash(folder) != digest:
            raise BundleError(
                f"the bundle at {folder} has changed since it was stored", cause="its content hash differs"
            )
        return folder

    def has(self, model: str, digest: str) -> bool:
        """See `Store`."""
        return (self.root / model / digest / MANIFEST).is_file()

    def address(self, model: str, digest: str) -> str:
        """See `Store`."""
        return f"file://{self.root / model / digest}"

    def _publish(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        shutil.copytree(source, fresh)
        for path in fresh.iterdir():
            _sync(path)
        try:
            fresh.rename(target)
        except OSError:
            # Another process published the same content first; identical by name.
            shutil.rmtree(fresh)
            if not target.exists():
                raise
        _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
