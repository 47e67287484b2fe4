"""The one rule for the time at which stored features are looked up.

Invariant: offline and online lookups ask for the same moment; the rule needs no table library, so a predictor has none.
"""

from __future__ import annotations

from datetime import UTC, datetime


def lookup_time(as_of: datetime) -> datetime:
    """The midnight (UTC) that begins the day of `as_of`: stored features change then and at no other time (D11)."""
    moment = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
