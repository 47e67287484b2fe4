"""The last stage: what was answered, as an exposure and the rows beside it.

Invariant: the row says how the request was answered, not how it could have been; it is handed on without waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import orjson

from serinus.core.events import Decided, Event, Exposure, Inputs, Scores, Stream, exposure_id
from serinus.core.names import ServiceRef
from serinus.features.transforms import Matrix
from serinus.serving.answer import Answer, Flags
from serinus.serving.sampling import Sampling
from serinus.serving.stages import Admitted, Now


@dataclass(frozen=True)
class Identity:
    """What is served: the service, its constant salt, the model version and the revision (D1)."""

    service: ServiceRef
    salt: str
    version: str
    revision: str


class ExposureLog(Protocol):
    """Where the data plane leaves exposures; never blocks."""

    def put(self, exposure: Exposure, beside: Mapping[Stream, Event]) -> bool:
        """Takes an exposure with the rows under its id, by their stream; False when they are lost."""


@dataclass(frozen=True)
class Made:
    """An answer with what it was made from: `rows` that the model was fed, `order` their positions as ranked."""

    answer: Answer
    rows: Matrix
    order: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """How a request ended: with an answer after `lookups` lookups, or with the type of a fault.

    `covariates` are known in both cases, if the lookup was reached.
    """

    latency_ms: float
    made: Made | None = None
    lookups: int = 0
    covariates: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Recorder:
    """See the module."""

    identity: Identity
    log: ExposureLog
    now: Now
    sampling: Sampling

    def __call__(self, admitted: Admitted, result: Result) -> bool:
        """False when the exposure is lost."""
        if result.made is None:
            return self.log.put(self._exposure(admitted, result, Flags("")), {})
        exposure = self._exposure(admitted, result, result.made.answer.flags)
        return self.log.put(exposure, self._beside(exposure, admitted, result.made))

    def _beside(self, exposure: Exposure, admitted: Admitted, made: Made) -> dict[Stream, Event]:
        answer, who = made.answer, (exposure.id, exposure.request_id)
        order = made.order if admitted.items else ()
        found: dict[Stream, Event] = {
            Stream.SCORES: Scores(*who, answer.items or ("",), answer.probabilities),
            Stream.DECISIONS: Decided(*who, exposure.revision, exposure.at, "", (), (), 1.0, order),
        }
        position = self.sampling.position(exposure.request_id, len(made.rows))
        if position is not None:
            found[Stream.INPUTS] = _inputs(exposure, admitted, made.rows, position)
        return found

    def _exposure(self, admitted: Admitted, result: Result, flags: Flags) -> Exposure:
        return Exposure(
            id=exposure_id(admitted.request_id, self.identity.revision),
            request_id=admitted.request_id,
            service=str(self.identity.service),
            revision=self.identity.revision,
            version=self.identity.version,
            route=admitted.route,
            forced_arm=admitted.forced_arm,
            entity=admitted.entity,
            unit=admitted.unit,
            bucket=admitted.bucket,
            bucket_check=admitted.bucket_check.value,
            at=self.now().timestamp(),
            as_of=admitted.as_of.timestamp(),
            items=max(len(admitted.items), 1),
            cold_start=flags.cold_start,
            unknown_items=len(flags.unknown_items),
            lookups=result.lookups,
            defaulted=sum(flags.defaulted.values()),
            latency_ms=result.latency_ms,
            error=result.error,
            covariates=result.covariates,
            writer="",
            sequence=0,
        )


def _inputs(exposure: Exposure, admitted: Admitted, rows: Matrix, position: int) -> Inputs:
    given = {name: value for name, value in admitted.context.items() if value is not None}
    return Inputs(
        id=exposure.id,
        request_id=exposure.request_id,
        revision=exposure.revision,
        at=exposure.at,
        as_of=exposure.as_of,
        position=position,
        item=admitted.items[position] if admitted.items else "",
        row=tuple(rows[position].tolist()),
        context=orjson.dumps(given).decode(),
    )
