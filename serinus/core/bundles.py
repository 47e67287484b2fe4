"""The name of a stored bundle: `bundles://<store>/<model>/<hash>`, relative to a store that a profile knows (D14).

Invariant: a name says which content of which model, never where on a machine; so it means the same wherever a store of
that name has it, and after the store was moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serinus.core.errors import UsageError

SCHEME = "bundles://"
STORE_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_URI = re.compile(rf"{SCHEME}(?P<store>{STORE_NAME})/(?P<model>[^/]+)/(?P<digest>[0-9a-f]{{64}})")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundleUri:
    """`digest` is the content hash of the bundle: 64 digits, hex."""

    store: str
    model: str
    digest: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.store}/{self.model}/{self.digest}"

    @classmethod
    def parse(cls, uri: str) -> BundleUri:
        """Raises `UsageError` for another text."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise UsageError(f"{uri} names no stored bundle", hint=f"a name is {SCHEME}<store>/<model>/<content hash>")
        return cls(**found.groupdict())


def is_named(uri: str) -> bool:
    """Whether it is relative to a store, right or wrong; others are addresses."""
    return uri.startswith(SCHEME)


def content_of(uri: str) -> str:
    """The content hash that a URI ends with, by which the same bundle is known in another place; else all of it."""
    last = uri.rpartition("/")[2]
    return last if _DIGEST.fullmatch(last) else uri
