"""Addresses of servers, as messages and logs may show them.

Invariant: no password is in what is shown, wherever an address carries it.
"""

from __future__ import annotations


def shown(address: str) -> str:
    """`scheme://host:port/path`, without a user, and without options: both can hold a password."""
    scheme, _, rest = address.partition("://")
    place, _, options = rest.partition("?")
    # A password may have a question mark of its own, and then what looks like the place is the user.
    return f"{scheme}://{'…' if '@' in options else place.rpartition('@')[2]}"
