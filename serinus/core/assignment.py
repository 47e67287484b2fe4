"""Which units a rollout takes: buckets in the order of its seed, and the regular expression of a set of buckets (D2).

Invariant: a function of the seed alone, on every machine and version. The canary is a prefix of the order and the
hold-back its tail, so a higher weight only adds buckets and no bucket is ever in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

from serinus.core.words import Arm

BUCKETS = 1000
PER_PERCENT = BUCKETS // 100
# A route lists the smaller arm, so it never needs more.
MOST_LISTED = BUCKETS // 2
_DIGITS = "0123456789"


@lru_cache(maxsize=256)
def permutation(seed: int) -> tuple[int, ...]:
    """The 1000 buckets in the order of BLAKE2b (8 bytes) of `seed:bucket`: a fresh order for each rollout."""
    return tuple(sorted(range(BUCKETS), key=lambda bucket: (_draw(seed, bucket), bucket)))


def _draw(seed: int, bucket: int) -> bytes:
    return blake2b(f"{seed}:{bucket}".encode(), digest_size=8).digest()


@lru_cache(maxsize=256)
def places(seed: int) -> tuple[int, ...]:
    """By bucket, its place in the order: a bucket is the canary's when its place is below the weight's buckets."""
    order = permutation(seed)
    return tuple(sorted(range(BUCKETS), key=order.__getitem__))


def canary_buckets(seed: int, weight: int, hold_back: int) -> tuple[int, ...]:
    """The prefix that `weight` per cent take. Raises `ValueError` when it would reach into the hold-back."""
    if not 0 <= weight <= 100 - hold_back:
        raise ValueError(f"weight {weight} must be between 0 and 100 less the hold-back of {hold_back}")
    return permutation(seed)[: weight * PER_PERCENT]


def hold_back_buckets(seed: int, hold_back: int) -> tuple[int, ...]:
    """The tail of `hold_back` per cent that stays on the stable arm after promotion."""
    return permutation(seed)[BUCKETS - hold_back * PER_PERCENT :]


def mirrored_buckets(seed: int, share: float) -> tuple[int, ...]:
    """The prefix whose requests are mirrored in a shadow step; `share` from 0 to 1. None of them changes its arm."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of requests is between 0 and 1, not {share}")
    return permutation(seed)[: round(share * BUCKETS)]


def smaller_arm(seed: int, weight: int, hold_back: int) -> tuple[Arm, tuple[int, ...]]:
    """The arm with fewer buckets and these, rising: what a route lists; every other bucket is the other arm's.

    The canary when both have 500. No buckets when the canary has no weight, or all of it.
    """
    canary = canary_buckets(seed, weight, hold_back)
    if len(canary) <= MOST_LISTED:
        return Arm.CANARY, tuple(sorted(canary))
    return Arm.STABLE, tuple(sorted(permutation(seed)[len(canary) :]))


def regex_of(buckets: Iterable[int]) -> str:
    """A regular expression that matches exactly these buckets as three digits: `^(?:...)$`, a trie by digits.

    Anchored, because some gateways search where others match. Equal branches are shared, digits are character classes.
    500 buckets always need fewer than 1,024 characters, the least limit known of a route: a class of d digits takes
    d + 2 at most, each of the 100 pairs of digits before one adds 2, each first digit 6; that is 500 + 400 + 60, and 6
    for the anchors. Raises `ValueError` for none, for more than 500, and for what is not a bucket.
    """
    chosen = sorted(set(buckets))
    if not 0 < len(chosen) <= MOST_LISTED:
        raise ValueError(f"a route lists 1 to {MOST_LISTED} buckets, not {len(chosen)}: list those of the smaller arm")
    if chosen[0] < 0 or chosen[-1] >= BUCKETS:
        raise ValueError(f"buckets are 0 to {BUCKETS - 1}, not {chosen[0]} to {chosen[-1]}")
    last: dict[str, str] = {}
    for text in (f"{bucket:03d}" for bucket in chosen):
        last[text[:2]] = last.get(text[:2], "") + text[2]
    rest: dict[str, dict[str, str]] = {}
    for pair, digits in last.items():
        rest.setdefault(pair[0], {})[pair[1]] = _class(digits)
    return f"^(?:{_branches({first: _grouped(tails) for first, tails in rest.items()})})$"


def _grouped(tails: Mapping[str, str]) -> str:
    joined = _branches(tails)
    return f"(?:{joined})" if "|" in joined else joined


def _branches(tails: Mapping[str, str]) -> str:
    """Alternatives `digits` + tail, one for each different tail."""
    digits: dict[str, str] = {}
    for digit, tail in tails.items():
        digits[tail] = digits.get(tail, "") + digit
    return "|".join(_class(some) + tail for tail, some in digits.items())


def _class(digits: str) -> str:
    """One digit as it is; more as a class, three or more in a row as a range."""
    if len(digits) == 1:
        return digits
    text, start = "", 0
    for end in range(1, len(digits) + 1):
        run = digits[start:end]
        if end == len(digits) or digits[start : end + 1] not in _DIGITS:
            text, start = text + (f"{run[0]}-{run[-1]}" if len(run) > 2 else run), end
    return f"[{text}]"
