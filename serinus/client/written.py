"""How ids, times and numbers are written: the forms on which callers, servers and features agree.

Invariant: each function gives the one written form of a value, or raises `ValueError` that says what the form is; no
two forms mean the same id. The page for users is docs/concepts/inputs.md.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from datetime import UTC, datetime, timedelta

MOST_CHARACTERS = 200
# The largest finite float32, of which a model's inputs are made.
LARGEST = 3.4028234663852886e38
# What Unicode calls default ignorable, and the blank of Braille, where Python calls them printable: nobody sees them.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_WHOLE = re.compile(r"-?[1-9][0-9]*|0")
_ZONE = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
_TIME = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,9}})?)?{_ZONE}?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)
OUT_OF_RANGE = "must lie between 1970 and 2199"


def written_id(value: object) -> str:
    """An id as text: text is taken as it is, a whole number in decimal digits.

    Text that differs from another by what nobody sees would be a second id of the same thing, and is refused: blanks at
    the ends, characters that are not printed, and Unicode that is not composed (NFC). So are fractions, flags and null.
    """
    if not isinstance(value, str):
        return _decimal(value)
    if not 0 < len(value) <= MOST_CHARACTERS:
        raise ValueError(f"an id has 1 to {MOST_CHARACTERS} characters")
    if not value.isprintable() or _UNSEEN.search(value):
        raise ValueError("an id has printable characters only")
    if value != value.strip():
        raise ValueError("an id has no blanks at its ends")
    if not unicodedata.is_normalized("NFC", value):
        raise ValueError("an id is written in composed Unicode (NFC)")
    return value


def _decimal(value: object) -> str:
    if isinstance(value, bool):
        raise ValueError("an id is text or a whole number, not a flag")
    try:
        return written_id(str(operator.index(value)))  # type: ignore[arg-type]  # that it fails is the answer
    except TypeError:
        raise ValueError(f"an id is text or a whole number, not {type(value).__name__} ({value!r:.40})") from None


def whole_id(text: str, bits: int = 64) -> int:
    """The number of an id whose key is a whole number of 32 or 64 bits: `12347`, `-5`, `0`.

    Python's `int` would also take `012347`, `+12347`, `12_347`, blanks, and digits of other scripts: one customer under
    many ids.
    """
    limit = 1 << (bits - 1)
    # The length first: a long number takes time that grows with its square.
    if _WHOLE.fullmatch(text) and len(text) <= 20 and -limit <= (number := int(text)) < limit:
        return number
    raise ValueError(
        f"must be a whole number of {bits} bits in plain digits, like 12347: no leading zero, plus sign, underscore, "
        "blank, point or exponent"
    )


def moment(value: object) -> datetime:
    """A time in UTC: ISO 8601 text, in UTC where it names no zone, or a number of seconds since 1970."""
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return _in_utc(datetime.fromisoformat(value))
        except ValueError as fault:
            raise ValueError(f"no such time: {fault}") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise ValueError(OUT_OF_RANGE) from None
    raise ValueError("must be a time like 2011-10-03T14:30:00Z, a day, or seconds since 1970")


def in_range(found: datetime) -> bool:
    """Whether a time lies between 1970 and 2199: what features and the event log can hold."""
    return _EPOCH <= found < _LAST


def _in_utc(found: datetime) -> datetime:
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:  # its zone takes it out of the calendar, and out of the range with it
        return datetime.max.replace(tzinfo=UTC)


def number(value: object) -> float:
    """A number that a model can take: finite, within float32, and not text or a flag that looks like one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number, not text, a flag or a list")
    # An int is compared without becoming a float, which a long one could not.
    if not abs(value) <= LARGEST:
        raise ValueError("must be a finite number of at most 3.4e38 (float32)")
    return float(value)
