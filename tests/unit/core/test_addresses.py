"""What is shown of an address holds no password."""

from __future__ import annotations

import pytest

from serinus.core.addresses import shown


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("redis://events:6379/0", "redis://events:6379/0"),
        ("redis://writer:secret@events:6379/0", "redis://events:6379/0"),
        ("redis://writer:se@cret@events:6379/0", "redis://events:6379/0"),
        ("redis://events:6379/0?protocol=3", "redis://events:6379/0"),
        ("redis://events:6379/0?password=secret", "redis://events:6379/0"),
        ("redis://events:6379/0?password=se@cret", "redis://…"),
        ("redis://writer:se?cret@events:6379/0", "redis://…"),
    ],
)
def test_an_address_is_shown_without_a_password(address: str, wanted: str) -> None:
    assert shown(address) == wanted
