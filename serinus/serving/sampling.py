"""Which requests leave what the model was fed in the log, and with which of their rows.

Invariant: a function of the request id and the share alone, so both arms of a shadow log the same row of the same
requests, and a request that is sampled at one share is sampled at every larger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

_HALF = 8


@dataclass(frozen=True)
class Sampling:
    """`share` of the requests, from 0, none, to 1, all."""

    share: float = 0.0

    def position(self, request_id: str, rows: int) -> int | None:
        """The row of a request of `rows` rows; None when the request is not sampled."""
        if not self.share:
            return None
        digest = blake2b(request_id.encode(), digest_size=2 * _HALF).digest()
        if int.from_bytes(digest[:_HALF], "big") >= self.share * 2.0 ** (8 * _HALF):
            return None
        return int.from_bytes(digest[_HALF:], "big") % rows
