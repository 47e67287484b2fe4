"""The records of a service's rollouts, for report and summary.

Invariant: only reads; a rollout that is missing a state or looks is told as far as it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serinus.core.rollout.ports import RolloutStore
from serinus.core.rollout.record import Counted, RolloutRecord, record_of
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.stats.reading import Reading

Readings = Callable[[RolloutSpec, RolloutState], Sequence[Reading]]


def rollout_records(
    store: RolloutStore, readings: Readings, counted: Counted | None = None
) -> tuple[RolloutRecord, ...]:
    """Of all rollouts, in the order they were made; `readings` is `Engine.readings` of the engine that judged them."""
    found = []
    for name in store.names():
        spec, state = store.spec(name), store.state(name)
        found.append(record_of(spec, state, readings(spec, state), counted))
    return tuple(found)
