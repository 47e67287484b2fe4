"""Lines of the decision log, made the same way wherever something is decided.

Invariant: an entry that rests on a KPI shows what was measured and the boundary that it was held against.
"""

from __future__ import annotations

from typing import Any

from serinus.core.rollout.state import Entry, EntryKind, RolloutState
from serinus.core.stats.reading import Reading
from serinus.core.words import Verdict


def told(state: RolloutState, at: float, event: EntryKind, verdict: Verdict, reason: str) -> RolloutState:
    """With an entry that rests on no KPI."""
    return state.logged(Entry(at=at, step=state.step, event=event, verdict=verdict, reason=reason))


def read(
    state: RolloutState, reading: Reading, event: EntryKind, verdict: Verdict, reason: str, *, margin: bool = False
) -> RolloutState:
    """With an entry about a look, at the look's time; `margin` when it was held against that and not against harm."""
    facts = _measured(reading, margin=margin)
    return state.logged(Entry(at=reading.at, step=state.step, event=event, verdict=verdict, reason=reason, **facts))


def decided(state: RolloutState, at: float, event: EntryKind, verdict: Verdict, by: Reading | None) -> RolloutState:
    """With a decision, its reason being the state's; `by` is the latest reading of the KPI that decided it."""
    facts = _measured(by, margin=verdict in (Verdict.ADVANCE, Verdict.PROMOTE)) if by else {}
    return state.logged(Entry(at=at, step=state.step, event=event, verdict=verdict, reason=state.reason, **facts))


def _measured(reading: Reading, *, margin: bool = False) -> dict[str, Any]:
    return {
        "look": reading.look,
        "metric": reading.kpi,
        "estimate": reading.estimate,
        "low": reading.low,
        "high": reading.high,
        "boundary": reading.margin if margin else reading.boundary,
        "units": reading.units,
    }
