"""How a rollout looks on a terminal: arms with their weights, KPIs against their boundaries, the last decision.

Invariant: shows what the state holds, nothing else; the same state looks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from serinus.core.rollout.ports import RolloutStore
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import Entry, RolloutState
from serinus.core.rollout.words import Stage
from serinus.core.stats.plan import Planned
from serinus.core.stats.reading import Reading
from serinus.rollout.service import ServiceView

_WIDTH = 27


def service(view: ServiceView, spec: RolloutSpec | None, expected: dict[str, int]) -> RenderableType:
    """A service and its newest rollout; `expected` units by KPI, from the plan."""
    title = f"[bold]{escape(view.wanted.name)}[/] wanted; {view.standing}"
    parts: list[RenderableType] = [Text.from_markup(title + (f": {escape(view.reason)}" if view.reason else ""))]
    if view.rollout is not None and spec is not None:
        parts.append(rollout(spec, view.rollout, expected))
    elif view.stable is not None:
        parts.append(Text(f"{view.stable.name} serves all traffic"))
    return Group(*parts)


def standing(store: RolloutStore, view: ServiceView) -> RenderableType:
    """A service with the rollout that its view shows."""
    spec = store.spec(view.rollout.name) if view.rollout is not None else None
    return service(view, spec, {})


def rollout(spec: RolloutSpec, state: RolloutState, expected: dict[str, int]) -> RenderableType:
    """Arms and steps, KPIs against their boundaries, the last decision; `expected` units by KPI, from the plan."""
    return Group(arms(spec, state), kpis(state, expected), last_decision(state))


def arms(spec: RolloutSpec, state: RolloutState) -> Tree:
    """The rollout with its steps, and which arm has which share."""
    tree = Tree(Text.from_markup(f"[bold]{escape(state.name)}[/]  {state.phase}{_decided(state)}"))
    weight = state.route.weight if state.route else 0
    mirrored = f", sees {state.route.share:.0%} mirrored" if state.route and state.route.share else ""
    hold_back = f" (hold-back {spec.policy.hold_back} %)" if weight > 50 and state.phase.ended else ""
    tree.add(Text(f"stable  {spec.stable.name}  {100 - weight} %{hold_back}"))
    tree.add(Text(f"canary  {spec.candidate.name}  {weight} %{mirrored}"))
    steps = tree.add("steps")
    for number, one in enumerate(spec.policy.steps):
        entered = state.steps[number] if number < len(state.steps) else None
        mark = "·" if entered is None else "✓" if entered.left_at is not None else "▸"
        seen = f"  {entered.units} units, {entered.requests} requests" if entered else ""
        steps.add(Text(f"{mark} {_named(one.model_dump(exclude_none=True))}{seen}"))
    if state.unjudged:
        tree.add(Text("not judged: " + ", ".join(f"{count} {name}" for name, count in state.unjudged.items())))
    return tree


def kpis(state: RolloutState, expected: dict[str, int]) -> Table:
    """The latest reading of every KPI in the newest stage that has one: interval, boundary, units and what they say."""
    table = Table(header_style="bold")
    for name in ("kpi", "effect", "interval", "boundary", "-30 %        0        +30 %", "units", ""):
        table.add_column(name, justify="right" if name in ("effect", "units", "boundary") else "left", no_wrap=True)
    for one in latest(state):
        limit = {"goal": one.margin, "guardrail": one.boundary}.get(one.role)
        units = max(one.units.values(), default=0) if one.stage is Stage.SHADOW else sum(one.units.values())
        wanted = f" of {expected[one.kpi]}" if one.kpi in expected else ""
        table.add_row(
            f"{one.kpi}{' (goal)' if one.role == 'goal' else ''}",
            _percent(one.estimate),
            f"{_percent(one.low)} to {_percent(one.high)}",
            "" if limit is None else _percent(limit),
            interval_bar(one, limit),
            f"{units or sum(one.requests.values())}{wanted}",
            _verdict(one),
        )
    return table


def latest(state: RolloutState) -> list[Reading]:
    """Readings of the weights where there are any, else of the shadow, goals first."""
    found = state.readings.get(Stage.WEIGHTS) or state.readings.get(Stage.SHADOW) or {}
    return sorted(found.values(), key=lambda one: ("goal", "guardrail", "report").index(one.role))


def interval_bar(reading: Reading, limit: float | None) -> str:
    """The interval on a line from -30 % to +30 %: `|` no change, `!` the boundary, `-` the interval, `o` the effect."""

    def place(value: float) -> int:
        return round((min(max(value, -0.3), 0.3) + 0.3) / 0.6 * (_WIDTH - 1))

    line = [" "] * _WIDTH
    low = -0.3 if reading.low is None else reading.low
    high = 0.3 if reading.high is None else reading.high
    for position in range(place(low), place(high) + 1):
        line[position] = "-"
    line[place(0.0)] = "|"
    if limit is not None:
        line[place(limit)] = "!"
    if reading.estimate is not None:
        line[place(reading.estimate)] = "o"
    return "".join(line)


def last_decision(state: RolloutState) -> Text:
    """The newest line of the decision log."""
    return Text(entry_line(state.log[-1]) if state.log else "no decision yet", style="dim")


def entry_line(entry: Entry) -> str:
    """One line of the decision log as a sentence."""
    when = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="seconds")
    what = f" {entry.metric} {_percent(entry.estimate)} ({_percent(entry.low)} to {_percent(entry.high)})"
    measured = what + f" against {_percent(entry.boundary)}" if entry.metric else ""
    units = f", {sum(entry.units.values())} units" if entry.units else ""
    times = f" (x{entry.times})" if entry.times > 1 else ""
    event = "" if entry.event in ("look", entry.verdict) else f" ({entry.event})"
    return f"{when} step {entry.step} {entry.verdict}{event}{times}:{measured}{units} {entry.reason}".rstrip()


def planned(rows: Sequence[Planned]) -> Table:
    """A plan: one row a KPI, step and decision."""
    table = Table(header_style="bold")
    for name in (
        "step",
        "kpi",
        "decision",
        "effect",
        "floor",
        "units p50",
        "p80",
        "requests p50",
        "days p50",
        "undecided",
    ):
        table.add_column(name, justify="left" if name in ("kpi", "decision") else "right")
    for one in rows:
        numbers = (one.units_p50, one.units_p80, one.requests_p50, one.days_p50)
        table.add_row(
            f"{one.step} {one.stage}",
            one.kpi,
            one.decision.replace("_", " "),
            _percent(one.effect),
            f"{one.floor_units:.0f}",
            *("never" if value is None else f"{value:,.0f}" for value in numbers),
            f"{one.undecided:.0%}",
        )
    return table


def _decided(state: RolloutState) -> str:
    return f", by {state.decided_by} in {state.decided_in}" if state.decided_by else ""


def _named(step: dict[str, object]) -> str:
    step = {key: value for key, value in step.items() if value}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in step.items())


def _verdict(reading: Reading) -> str:
    if not reading.enough:
        return "not enough data"
    if reading.harm:
        return "[red]harm[/]"
    return "[green]not inferior[/]" if reading.non_inferior else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"
