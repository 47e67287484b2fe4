"""The bucket of a unit: the one function that caller, predictor and shell recipe must agree on (D2).

Invariant: a function of (salt, unit) alone; the salt belongs to the service and never changes.
"""

from __future__ import annotations

from hashlib import blake2b

from serinus.client.written import written_id

BUCKETS = 1000
HEADER = "x-serinus-bucket"
# Forces an arm, for tests: such a request is answered and never judged (D3).
ARM_HEADER = "x-serinus-arm"
# The stamp of the route by which a request came: `<rollout>.<number>`, set by the gateway, or by a client that routes.
ROUTE_HEADER = "x-serinus-route"
# 56 bits fit the signed 64-bit arithmetic of a shell; their remainder is off by at most 1000 / 2**56.
_BYTES = 7


def bucket_of(salt: str, unit: str | int) -> int:
    """0 to 999: BLAKE2b (7 bytes, big-endian) of salt and unit, modulo 1000.

    Raises `ValueError` for a unit that is not in its written form (the empty one is that of the salt alone).
    In a shell: `echo $((0x$(printf '%s%s' "$salt" "$unit" | b2sum -l 56 | cut -c1-14) % 1000))`.
    """
    written = written_id(unit) if unit != "" else ""
    digest = blake2b(f"{salt}{written}".encode(), digest_size=_BYTES).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def bucket_header(salt: str, unit: str | int) -> dict[str, str]:
    """The header by which a route keeps this unit on one arm: three digits. Raises `ValueError` like `bucket_of`."""
    return {HEADER: f"{bucket_of(salt, unit):03d}"}
