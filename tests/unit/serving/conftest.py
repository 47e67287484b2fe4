"""A data plane over the toy service, with what it logged and counted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry
from toy import NOON, SALT, MemoryLog, MemoryStore, bundle, reader, store

from serinus.core.names import ServiceRef
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane
from serinus.serving.recorder import Identity


@dataclass
class Toy:
    """Everything a test looks at."""

    plane: DataPlane
    log: MemoryLog
    store: MemoryStore
    registry: CollectorRegistry

    def count(self, name: str, **labels: str) -> float:
        """A counter's value; 0 when it never moved."""
        return self.registry.get_sample_value(name, labels) or 0.0


def make(
    kind: str, *, accept_event_time: bool = True, inputs_share: float = 0.0, revision: str = "toy-v3-abcdef"
) -> Toy:
    """A toy of a kind."""
    log, held, registry = MemoryLog(), store(), CollectorRegistry()
    ticks = iter(range(1_000_000))
    plane = DataPlane(
        Identity(ServiceRef("default", "toy"), SALT, "3", revision),
        bundle(kind),
        reader(held),
        log,
        ServingMetrics(registry),
        accept_event_time=accept_event_time,
        inputs_share=inputs_share,
        now=lambda: NOON,
        clock=lambda: next(ticks) / 1000,
    )
    return Toy(plane, log, held, registry)


@pytest.fixture
def ranking() -> Toy:
    """Ranks items."""
    return make("ranking")


@pytest.fixture
def scoring() -> Toy:
    """Scores one entity."""
    return make("scoring")
