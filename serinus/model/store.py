"""Where bundles live: a folder (also a mounted volume), one immutable sub-folder a content hash.

Invariant: a bundle is visible under `<model>/<hash>` only when it is whole and on disk; putting the same
bundle twice is harmless, and what is stored is never changed.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from serinus.core.errors import BundleError, NotFound
from serinus.files import DISK, Disk
from serinus.model.bundle import MANIFEST, content_hash

SCHEME = "file://"


class FolderBundleStore:
    """`BundleStore` on a file system."""

    def __init__(self, root: Path, *, disk: Disk = DISK) -> None:
        self.root, self._disk = root.resolve(), disk

    def put(self, model: str, folder: Path) -> str:
        """Copies the bundle in `folder` and returns its URI, `file://…/<model>/<hash>`."""
        digest = content_hash(folder)
        target = self.root / model / digest
        if not target.exists():
            self._publish(folder, target)
        self._disk.sync(target.parent)  # whoever published it may have been killed before
        return SCHEME + str(target)

    def get(self, uri: str) -> Path:
        """The folder of a URI, after checking that its content still has the hash in its name."""
        folder = Path(uri.removeprefix(SCHEME))
        if not (folder / MANIFEST).is_file():
            raise NotFound(f"no bundle at {uri}", hint="`serinus model list` shows the registered versions")
        if content_hash(folder) != folder.name:
            raise BundleError(f"the bundle at {uri} has changed since it was stored", cause="its content hash differs")
        return folder

    def _publish(self, source: Path, target: Path) -> None:
        # Another process may publish the same content first; identical by name.
        with suppress(FileExistsError), self._disk.new_folder(target) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
