"""Addresses of stores and servers: their schemes, and what messages and logs may show of them.

Invariant: an address is `scheme://…` or a plain path, and nobody else takes it apart; no password is in what is shown,
wherever an address carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from serinus.core.errors import UsageError

T = TypeVar("T")


def parts_of(address: str) -> tuple[str, str]:
    """`redis` and `host:6379` of redis://host:6379, the scheme in small letters; it is empty for a plain path."""
    scheme, separator, rest = address.partition("://")
    return (scheme.lower(), rest) if separator else ("", address)


def scheme_of(address: str) -> str:
    """`redis` of redis://…, in small letters; empty for a plain path."""
    return parts_of(address)[0]


def path_of(address: str) -> Path:
    """The path of `file:///a/b` or `sqlite:///a/b`; a plain path is one already."""
    return Path(parts_of(address)[1])


def by_scheme(table: Mapping[str, T], address: str, thing: str) -> T:
    """The entry for the scheme of an address, where "" is that of plain paths; `thing` is what should be there.

    Raises `UsageError` that names the schemes known.
    """
    scheme = scheme_of(address)
    if scheme not in table:
        known = ", ".join(f"{one}://…" if one else "a path" for one in table)
        raise UsageError(f"{shown(address)} is no address of {thing}", hint=f"known: {known}")
    return table[scheme]


def shown(address: str) -> str:
    """`scheme://host:port/path`, without a user, and without options: both can hold a password. A path is as it is."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    place, _, options = rest.partition("?")
    # A password may have a question mark of its own, and then what looks like the place is the user.
    return f"{scheme}://{'…' if '@' in options else place.rpartition('@')[2]}"
