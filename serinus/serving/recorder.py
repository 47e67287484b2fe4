"""The last stage: what was answered, as an exposure with its scores.

Invariant: the row says how the request was answered, not how it could have been; it is handed on without waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serinus.core.events import Exposure, Scores, exposure_id
from serinus.core.names import ServiceRef
from serinus.serving.answer import Answer, Flags
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

    def put(self, exposure: Exposure, scores: Scores | None) -> bool:
        """False when the row is lost."""


@dataclass(frozen=True)
class Result:
    """How a request ended: with an answer after `lookups` lookups, or with the type of a fault.

    `covariates` are known in both cases, if the lookup was reached.
    """

    latency_ms: float
    answer: Answer | None = None
    lookups: int = 0
    covariates: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Recorder:
    """See the module."""

    identity: Identity
    log: ExposureLog
    now: Now

    def __call__(self, admitted: Admitted, result: Result) -> bool:
        """False when the exposure is lost."""
        answer = result.answer
        exposure = self._exposure(admitted, result, answer.flags if answer else Flags(""))
        if answer is None:
            return self.log.put(exposure, None)
        scores = Scores(exposure.id, exposure.request_id, answer.items or ("",), answer.probabilities)
        return self.log.put(exposure, scores)

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
