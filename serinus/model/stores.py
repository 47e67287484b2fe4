"""Bundle stores by name: a URI is relative to a named store, and who reads it knows where that store is.

Three forms: `bundles://<store>/<model>/<hash>` is what registries, services and rollouts keep;
`<address of the store>/<model>/<hash>` is where that is here, for a process that knows no stores; a plain path is a
folder that is in no store.
Invariant: only names are given out, and what is read from a store has the content that its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from serinus.core.addresses import by_scheme, parts_of, path_of, scheme_of
from serinus.core.bundles import BundleUri, content_of, is_named
from serinus.core.errors import NotFound, UsageError
from serinus.model.store import FolderBundleStore

HOME = "home"
_FILE = "file"
_KNOWN_BY = "bundle_stores of the profile in serinus.toml names stores with their addresses"


class Store(Protocol):
    """Immutable bundles by model and content hash, in one place."""

    def put(self, model: str, folder: Path) -> str:
        """Stores a copy of the bundle in `folder`; its content hash. Raises `BundleError` where one has changed."""

    def get(self, model: str, digest: str) -> Path:
        """A local folder with the bundle. Raises `NotFound`, or `BundleError` when its content has changed."""

    def has(self, model: str, digest: str) -> bool:
        """Whether there is one of that name."""

    def address(self, model: str, digest: str) -> str:
        """Where it is, or would be, for `bundle_at`."""


_KINDS: Mapping[str, Callable[[str], Store]] = {
    kind: lambda address: FolderBundleStore(path_of(address)) for kind in ("", _FILE)
}


def store_at(address: str) -> Store:
    """The store at an address. Raises `UsageError` for a scheme that is not known."""
    return by_scheme(_KINDS, address, "a bundle store")(address)


def bundle_at(address: str) -> Path:
    """A local folder with the bundle: checked if it is one of a store, as it is if the address is a plain path.

    Raises `NotFound`, `BundleError` when its content has changed, `UsageError` for an address of no known kind.
    """
    scheme = scheme_of(address)
    if not scheme:
        return Path(address)
    if is_named(address):
        raise UsageError(f"{address} is relative to a bundle store that is not known here", hint=_KNOWN_BY)
    root, model, digest = _parts(address)
    return store_at(f"{scheme}://{root}").get(model, digest)


class BundleStores:
    """`BundleStore`: the stores of a profile by name, one of them the one that is written to.

    Raises `UsageError` for an address of an unknown scheme, or when the store to be written to is none of them.
    """

    def __init__(self, addresses: Mapping[str, str], written: str = HOME) -> None:
        self._stores = {name: store_at(address) for name, address in addresses.items()}
        self._written = written
        self._store(written)

    def put(self, model: str, folder: Path) -> str:
        """See `BundleStore`."""
        return str(BundleUri(self._written, model, self._store(self._written).put(model, folder)))

    def get(self, uri: str) -> Path:
        """See `BundleStore`."""
        return bundle_at(self.address(uri))

    def address(self, uri: str) -> str:
        """See `BundleStore`."""
        known = self.named(uri)
        if not is_named(known):
            return known
        name = BundleUri.parse(known)
        holder = self._holder(name.model, name.digest, first=name.store) or name.store
        return self._store(holder).address(name.model, name.digest)

    def named(self, uri: str) -> str:
        """See `BundleStore`."""
        if scheme_of(uri) != _FILE or content_of(uri) == uri:
            return uri
        _, model, digest = _parts(uri)
        inside = (name for name, store in self._stores.items() if store.address(model, digest) == uri)
        store = next(inside, None) or self._holder(model, digest)
        return str(BundleUri(store, model, digest)) if store else uri

    def _holder(self, model: str, digest: str, *, first: str = "") -> str | None:
        """The store that has a bundle, `first` before the others."""
        order = sorted(self._stores, key=lambda name: name != first)
        return next((name for name in order if self._stores[name].has(model, digest)), None)

    def _store(self, name: str) -> Store:
        if name not in self._stores:
            raise UsageError(
                f"this profile has no bundle store {name}",
                cause=f"it has {', '.join(self._stores)}",
                hint=_KNOWN_BY,
            )
        return self._stores[name]


def _parts(address: str) -> tuple[str, str, str]:
    """Place of the store, model and content hash of a bundle's address."""
    parts = parts_of(address)[1].rsplit("/", 2)
    if len(parts) < 3:
        raise NotFound(f"no bundle at {address}", hint="`serinus model list` shows the registered versions")
    return parts[0] or "/", parts[1], parts[2]
