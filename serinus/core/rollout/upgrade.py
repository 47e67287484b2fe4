"""Rollout states as the release before schema 1 wrote them.

Invariant: a step that had begun then began when it was decided; what was decided and not acted on is pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def upgraded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A state with the counters `written` and `acted`, as one of schema 1."""
    state = {name: value for name, value in raw.items() if name not in ("written", "acted")}
    ended, routed = state.get("ended_at"), state.get("route") is not None
    due = raw["acted"] < raw["written"]
    steps = [{**one, "in_force_at": one["entered_at"]} for one in state.get("steps", ())]
    if due and steps and ended is None:
        steps[-1]["in_force_at"] = None
    state["steps"] = steps
    state["in_force_at"] = None if due or not routed else ended or steps[-1]["entered_at"]
    state["pending"] = dict.fromkeys(("start", *(("route",) if routed else ())), "") if due else {}
    if due and ended is not None:
        state["pending"] = dict.fromkeys(("remember", *(("route",) if routed else ()), "remove"), "")
    state["conditions"] = [
        {**one, "name": "SampleRatioMatched"} if one["name"] == "SampleRatio" else one
        for one in state.get("conditions", ())
    ]
    return state
