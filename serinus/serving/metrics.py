"""What a predictor counts, in Prometheus' terms; KServe's /metrics shows it beside its own figures.

Invariant: every request that is JSON is counted once, as answered, refused or failed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from serinus.core.events import BESIDE, Stream

_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGES = ("admit", "lookup", "transform", "score", "rank", "log")
LOSSES = ("full", "closed", "unwritten")


class ServingMetrics:
    """One set of metrics; `service`, `version` and `revision` are labels of `serinus_model_info` alone."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.requests = Counter("serinus_requests", "requests by outcome", ["outcome"], registry=registry)
        self.seconds = Histogram(
            "serinus_request_seconds", "time in the data plane", buckets=_BUCKETS, registry=registry
        )
        self._stages = Histogram(
            "serinus_stage_seconds", "time by stage", ["stage"], buckets=_BUCKETS, registry=registry
        )
        self.lookups = Counter(
            "serinus_lookups", "ids looked up, by view and status", ["view", "status"], registry=registry
        )
        self.context = Counter(
            "serinus_context_values", "values that requests carry, by status", ["value", "status"],
            registry=registry,
        )  # fmt: skip
        self.cold_starts = Counter("serinus_cold_starts", "requests of unknown entities", registry=registry)
        self.unknown_items = Counter("serinus_unknown_items", "items that no view knows", registry=registry)
        self.buckets = Counter(
            "serinus_bucket_checks", "requests by what their bucket was", ["check"], registry=registry
        )
        self.written = Counter("serinus_exposures_written", "exposures on disk", registry=registry)
        self.lost = Counter(
            "serinus_exposures_lost", "exposures that will never be on disk", ["reason"], registry=registry
        )
        self.rows = Counter("serinus_log_rows", "rows on disk, those written again too", ["stream"], registry=registry)
        self.waiting = Gauge("serinus_exposures_waiting", "exposures not yet on disk", registry=registry)
        self.info = Gauge("serinus_model_info", "what is served", ["service", "version", "revision"], registry=registry)
        for stage in STAGES:
            self._stages.labels(stage)
        for reason in LOSSES:  # shown from the start as 0: a rate of a series that is not there never alarms
            self.lost.labels(reason)
        for stream in (*BESIDE, Stream.EXPOSURES):
            self.rows.labels(stream.value)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage, also when it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stages.labels(name).observe(time.perf_counter() - began)
