"""The data plane: one request in, one answer out, one exposure logged with what is beside it; it knows no protocol.

Invariant: a request that was admitted leaves exactly one exposure, also when answering it failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from serinus.features.keys import IdKinds
from serinus.features.online import OnlineReader
from serinus.model.bundle import Bundle
from serinus.serving.answer import Answer, Flags
from serinus.serving.metrics import ServingMetrics
from serinus.serving.recorder import ExposureLog, Identity, Made, Recorder, Result
from serinus.serving.request import BadRequest, Caller, Instance
from serinus.serving.sampling import Sampling
from serinus.serving.stages import (
    Admission,
    Admitted,
    Covariates,
    LookedUp,
    Now,
    Stages,
    rank,
    wall_clock,
)

Clock = Callable[[], float]


def unaltered(stages: Stages) -> Stages:
    """The stages as they are."""
    return stages


class DataPlane:
    """The stages of one bundle, in order."""

    def __init__(
        self,
        identity: Identity,
        bundle: Bundle,
        reader: OnlineReader,
        log: ExposureLog,
        metrics: ServingMetrics,
        *,
        accept_event_time: bool = False,
        covariates: Sequence[str] = (),
        inputs_share: float = 0.0,
        unit: str = "",
        alter: Callable[[Stages], Stages] = unaltered,
        now: Now = wall_clock,
        clock: Clock = time.perf_counter,
    ) -> None:
        manifest = bundle.manifest
        self.identity, self.bundle = identity, bundle
        self._metrics, self._clock = metrics, clock
        self._record = Recorder(identity, log, now, Sampling(inputs_share))
        kinds = IdKinds.of(manifest.features.definitions, manifest.entity, unit, manifest.item)
        kinds = replace(kinds, passes=accept_event_time)
        self._admit = Admission(manifest, identity.salt, accept_event_time, now, kinds)
        self._covariates = Covariates(covariates, manifest)
        self._stages = alter(Stages.of(bundle, reader))
        metrics.info.labels(identity.service.shown, identity.version, identity.revision).set(1)

    def answer(self, asked: Instance, caller: Caller) -> Answer:
        """Raises `BadRequest`, or whatever a stage raised after its exposure was logged."""
        began = self._clock()
        try:
            with self._metrics.stage("admit"):
                admitted = self._admit(asked, caller)
        except BadRequest:
            self.refused()
            raise
        self._metrics.buckets.labels(admitted.bucket_check.value).inc()
        covariates: tuple[float, ...] = ()
        try:
            with self._metrics.stage("lookup"):
                found = self._stages.look_up(admitted)
            covariates = self._covariates(found)
            made = self._answer(admitted, found)
        except Exception as fault:
            self._metrics.requests.labels("failed").inc()
            failed = Result(self._spent(began), covariates=covariates, error=type(fault).__name__)
            self._record(admitted, failed)
            raise
        with self._metrics.stage("log"):
            logged = self._record(admitted, Result(self._spent(began), made, found.lookups, covariates))
        self._metrics.requests.labels("answered").inc()
        self._metrics.seconds.observe(self._clock() - began)
        answer = made.answer
        return answer if logged else replace(answer, flags=replace(answer.flags, not_logged=True))

    def refused(self) -> None:
        """Counts a request that was refused, here or by the protocol that could not read it."""
        self._metrics.requests.labels("refused").inc()

    def _spent(self, began: float) -> float:
        """Milliseconds."""
        return (self._clock() - began) * 1e3

    def _answer(self, admitted: Admitted, found: LookedUp) -> Made:
        stage = self._metrics.stage
        with stage("transform"):
            rows = self._stages.transform(found)
        with stage("score"):
            scores = self._stages.score(rows)
        with stage("rank"):
            order = rank(scores).tolist()
            items = tuple(admitted.items[place] for place in order) if admitted.items else ()
            flags = self._flags(admitted, found)
        who = self.identity
        answer = Answer(admitted.request_id, who.version, who.revision, items, tuple(scores[order].tolist()), flags)
        return Made(answer, rows, tuple(order))

    def _flags(self, admitted: Admitted, found: LookedUp) -> Flags:
        defaulted: dict[str, int] = {}
        for side in found.sides.values():
            for view, states in side.status.items():
                for state in set(states):
                    shown = state if found.reachable else "unavailable"
                    self._metrics.lookups.labels(view, shown).inc(states.count(state))
                bad = len(states) - states.count("found")
                defaulted |= {view: bad} if bad else {}
        for name, given in admitted.context.items():
            self._metrics.context.labels(name, "missing" if given is None else "given").inc()
            defaulted |= {f"context.{name}": 1} if given is None else {}
        entity, item = self.bundle.manifest.entity, self.bundle.manifest.item
        cold = not _known(found, entity)[0]
        unknown: tuple[str, ...] = ()
        if item is not None:
            known = _known(found, item)
            unknown = tuple(one for one, seen in zip(admitted.items, known, strict=True) if not seen)
        self._metrics.cold_starts.inc(cold)
        self._metrics.unknown_items.inc(len(unknown))
        return Flags(admitted.bucket_check.value, cold, unknown, defaulted, not found.reachable)


def _known(found: LookedUp, entity: str) -> list[bool]:
    """For each id whether any view has a row of it."""
    states = list(found.sides[entity].status.values())
    return [any(state != "missing" for state in one) for one in zip(*states, strict=True)]
