"""Taking looks into the state: each once, strictly in order, whatever was delivered twice or late.

Invariant: a look after a gap waits until the gap is filled; what a look adds depends on the looks before it alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from serinus.core.rollout.entries import read
from serinus.core.rollout.rules import held
from serinus.core.rollout.state import Boundary, Closed, Crossing, RolloutState
from serinus.core.stats.reading import Reading
from serinus.core.words import Verdict


def in_order(readings: Iterable[Reading], after: int) -> tuple[Reading, ...]:
    """Those that follow look `after` without a gap."""
    found: list[Reading] = []
    for reading in sorted(readings, key=lambda one: one.sequence):
        if reading.sequence == after + len(found) + 1:
            found.append(reading)
    return tuple(found)


def consumed(state: RolloutState, reading: Reading) -> RolloutState:
    """With what the look says: the reading, what was closed, and new crossings with their entries."""
    state = _tallied(state, reading)
    latest = {**state.readings.get(reading.stage, {}), reading.kpi: reading}
    state = state.changed(
        looks=reading.sequence,
        readings={**state.readings, reading.stage: latest},
        enough=state.enough or (reading.enough and reading.role != "report"),
    )
    for boundary in _new_crossings(state, reading):
        state = _crossed(state, reading, boundary)
    return state


def after_promotion(state: RolloutState, reading: Reading) -> RolloutState:
    """A look at the hold-back: late harm is reported once and changes nothing (D6)."""
    state = state.changed(looks=reading.sequence, held_back={**state.held_back, reading.kpi: reading})
    known = state.has_crossed(reading.kpi, reading.stage, "late_harm")
    if not reading.harm or reading.role == "report" or known:
        return state
    state = state.changed(crossed=(*state.crossed, _crossing(reading, "late_harm")))
    return read(state, reading, "crossing", Verdict.HOLD, f"{reading.kpi} is harmed after the promotion: only reported")


def _new_crossings(state: RolloutState, reading: Reading) -> list[Boundary]:
    said: dict[Boundary, bool] = {"harm": reading.harm, "non_inferior": reading.non_inferior}
    if reading.role == "report":
        return []
    return [one for one, yes in said.items() if yes and not state.has_crossed(reading.kpi, reading.stage, one)]


def _crossed(state: RolloutState, reading: Reading, boundary: Boundary) -> RolloutState:
    state = state.changed(crossed=(*state.crossed, _crossing(reading, boundary)))
    verdict = Verdict.ROLLBACK if boundary == "harm" else Verdict.CONTINUE
    what = "is harmed" if boundary == "harm" else "is shown not to be inferior"
    return read(
        state,
        reading,
        "crossing",
        Verdict.HOLD if held(state) else verdict,
        f"{reading.kpi} {what} ({reading.stage})",
        margin=boundary == "non_inferior",
    )


def _crossing(reading: Reading, boundary: Boundary) -> Crossing:
    return Crossing(kpi=reading.kpi, stage=reading.stage, boundary=boundary, sequence=reading.sequence, at=reading.at)


def _tallied(state: RolloutState, reading: Reading) -> RolloutState:
    """Adds to the record of the look's own step, which a late one may have left already."""
    if not 0 <= reading.step < len(state.steps):
        return state
    record = state.steps[reading.step]
    before = state.readings.get(reading.stage, {}).get(reading.kpi)
    requests = sum(reading.requests.values()) - (sum(before.requests.values()) if before else 0)
    known, began = record.closed.get(reading.kpi), reading.at if reading.step_from is None else reading.step_from
    closed = Closed(
        units=reading.step_units,
        requests=requests + (known.requests if known else 0),
        first_at=min(began, known.first_at) if known else began,
        last_at=max(reading.at, known.last_at) if known else reading.at,
    )
    changed = record.model_copy(update={"closed": {**record.closed, reading.kpi: closed}})
    steps = (*state.steps[: reading.step], changed, *state.steps[reading.step + 1 :])
    return state.changed(steps=steps)
