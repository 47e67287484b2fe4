"""How a rollout looks on a terminal: arms with their weights, KPIs against their boundaries, the last decision.

Invariant: shows what the state holds, nothing else; the same state looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from serinus.cli.fitted import Column, Fitted, columns
from serinus.core.rollout.ports import RolloutStore
from serinus.core.rollout.record import KpiFigures, Replayed, figures_of, goals_of, stage_shown
from serinus.core.rollout.rules import stage_at
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import Entry, RolloutState
from serinus.core.stats.plan import Planned
from serinus.core.stats.reading import Reading
from serinus.core.words import Stage, distinct
from serinus.rollout.service import ServiceView

# Units that each KPI is expected to take in a stage, by the plan.
Expected = Mapping[Stage, Mapping[str, int]]
_WIDTH = 21


def service(
    view: ServiceView, spec: RolloutSpec | None, expected: Expected, replayed: Replayed | None = None
) -> RenderableType:
    """A service and its newest rollout; `expected` units, from the plan."""
    title = f"[bold]{escape(view.wanted.name)}[/] wanted; {view.standing}"
    parts: list[RenderableType] = [Text.from_markup(title + (f": {escape(view.reason)}" if view.reason else ""))]
    if view.rollout is not None and spec is not None:
        parts.append(rollout(spec, view.rollout, expected, replayed))
    elif view.stable is not None:
        parts.append(Text(f"{view.stable.name} serves all traffic"))
    return Group(*parts)


def standing(store: RolloutStore, view: ServiceView, replayed: Mapping[str, Replayed] | None = None) -> RenderableType:
    """A service with the rollout that its view shows; `replayed` by rollout."""
    spec = store.spec(view.rollout.name) if view.rollout is not None else None
    return service(view, spec, {}, (replayed or {}).get(spec.name) if spec else None)


def rollout(
    spec: RolloutSpec, state: RolloutState, expected: Expected, replayed: Replayed | None = None
) -> RenderableType:
    """Arms and steps, KPIs against their boundaries, the last decision; `expected` units, from the plan."""
    return Group(arms(spec, state, replayed), kpis(spec, state, expected), last_decision(spec, state))


def arms(spec: RolloutSpec, state: RolloutState, replayed: Replayed | None = None) -> Tree:
    """The rollout with its steps, which arm has which share, and what of it was a replay."""
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
        closed = state.closed(number, goals_of(spec)) if entered else None
        seen = f"  {closed.units:,} units, {closed.requests:,} requests" if closed else ""
        steps.add(Text(f"{mark} {_named(one.model_dump(exclude_none=True))}{seen}"))
    if replayed is not None:
        tree.add(Text(f"replayed: {replayed}"))
        if replayed.flag:
            tree.add(Text(f"! {replayed.flag}", style="yellow"))
    for line in _troubles(state):
        tree.add(Text(f"! {line}", style="yellow"))
    if state.unjudged:
        tree.add(Text("not judged: " + ", ".join(f"{count:,} {name}" for name, count in state.unjudged.items())))
    return tree


def _troubles(state: RolloutState) -> list[str]:
    """What is not as it should be, and why."""
    waits = [f"{act} is pending: {why}" for act, why in state.pending.items() if why]
    if state.phase.ended:
        return waits
    return waits + [f"not {one.name}: {one.reason}" for one in state.conditions if not one.holds]


def kpis(spec: RolloutSpec, state: RolloutState, expected: Expected) -> Fitted:
    """Every KPI of the stage that decided, or of the newest one: effect, boundaries, what they say, and on how much.

    The KPI that decided is marked, and harm that was found after the promotion has a row of its own.
    """
    stage = stage_shown(state)
    units = expected.get(stage, {}) if stage is not None else {}
    rows = [_row(one, state, units.get(one.name)) for one in figures_of(spec, state)]
    late = {one.kpi for one in state.crossed if one.boundary == "late_harm"}
    return columns(_KPIS, [*rows, *(_late(one) for name, one in state.held_back.items() if name in late)])


def interval_bar(low: float | None, estimate: float | None, high: float | None, *limits: float | None) -> str:
    """The interval on a line from -30 % to +30 %: `|` no change, `!` a boundary, `-` the interval, `o` the effect."""

    def place(value: float) -> int:
        return round((min(max(value, -0.3), 0.3) + 0.3) / 0.6 * (_WIDTH - 1))

    line = [" "] * _WIDTH
    if estimate is not None:
        for position in range(place(-0.3 if low is None else low), place(0.3 if high is None else high) + 1):
            line[position] = "-"
    line[place(0.0)] = "|"
    for limit in limits:
        if limit is not None:
            line[place(limit)] = "!"
    if estimate is not None:
        line[place(estimate)] = "o"
    return "".join(line)


def last_decision(spec: RolloutSpec, state: RolloutState) -> Text:
    """The newest line of the decision log."""
    return Text(entry_line(spec, state.log[-1]) if state.log else "no decision yet", style="dim")


def entry_line(spec: RolloutSpec, entry: Entry) -> str:
    """One line of the decision log as a sentence."""
    when = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="seconds")
    interval = f"{entry.metric} {change(entry.estimate, '-')} ({between(entry.low, entry.high)})"
    count = distinct(entry.units, stage_at(spec, max(entry.step, 0)))
    units = f", {count:,} units" if entry.units else ""
    measured = f"{interval} against {change(entry.boundary, 'nothing')}{units}" if entry.metric else ""
    times = f" (x{entry.times})" if entry.times > 1 else ""
    event = "" if entry.event in ("look", entry.verdict) else f" ({entry.event})"
    step = f" step {entry.step}" if entry.step >= 0 else ""
    said = "; ".join(filter(None, (measured, entry.reason)))
    return f"{when}{step} {entry.verdict}{event}{times}{': ' if said else ''}{said}"


def planned(rows: Sequence[Planned]) -> Fitted:
    """A plan: one row a KPI, step and decision."""
    return columns(_PLAN, [_planned(one) for one in rows])


def change(value: float | None, none: str = "") -> str:
    """A relative effect in per cent with its unit."""
    return none if value is None else f"{percent(value)} %"


def between(low: float | None, high: float | None) -> str:
    """An interval in a sentence; a bound that is None has no end."""
    return f"{percent(low, '-∞')} to {percent(high, '+∞')} %"


def percent(value: float | None, none: str = "") -> str:
    """A relative effect in per cent, at most nine characters wide: of what is huge only the order is of use."""
    if value is None:
        return none
    if not isfinite(value):
        return "+∞" if value > 0 else "-∞"
    shown = 100 * value
    return f"{shown:+,.1f}" if abs(shown) < 99_999 else f"{shown:+.1e}"


def _decided(state: RolloutState) -> str:
    return f", by {state.decided_by} in {state.decided_in}" if state.decided_by else ""


def _named(step: dict[str, object]) -> str:
    step = {key: value for key, value in step.items() if value}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in step.items())


def _row(one: KpiFigures, state: RolloutState, expected: int | None) -> tuple[Text | str, ...]:
    return (
        Text(f"{one.name} ◂" if one.name == state.decided_by else one.name, style="bold" if one.role == "goal" else ""),
        change(one.estimate, "-"),
        "" if one.estimate is None else between(one.low, one.high),
        change(one.harm),
        change(one.margin),
        _said(one.said),
        (f"{one.units:,}" if one.units else "") + (f" of {expected:,}" if expected is not None else ""),
        interval_bar(one.low, one.estimate, one.high, one.harm, one.margin),
        one.role,
        f"{one.requests:,}" if one.requests else "",
    )


def _late(one: Reading) -> tuple[Text | str, ...]:
    units, requests = sum(one.units.values()), sum(one.requests.values())
    return (
        f"{one.kpi} after the promotion",
        change(one.estimate, "-"),
        between(one.low, one.high),
        change(one.boundary),
        "",
        Text("late harm", style="red"),
        f"{units:,}" if units else "",
        interval_bar(one.low, one.estimate, one.high, one.boundary),
        one.role,
        f"{requests:,}",
    )


def _said(said: str) -> Text:
    return Text(said, style={"harmed": "red", "not inferior": "green"}.get(said, ""))


def _planned(one: Planned) -> tuple[str, ...]:
    numbers = (one.units_p50, one.units_p80, one.requests_p50, one.days_p50)
    units, most, requests, days = ("never" if value is None else f"{value:,.0f}" for value in numbers)
    decision, step = one.decision.replace("_", " "), f"{one.step} {one.stage}"
    effect, floor = change(one.effect), f"{one.floor_units:,.0f}"
    return (step, one.kpi, decision, effect, units, most, f"{one.undecided:.0%}", days, requests, floor)


# What is kept to the last: which KPI, what it changed by, against which boundaries, and what that says.
_KPIS = (
    Column("kpi", (), folds=True),
    Column("effect", (), right=True),
    Column("interval", (), goes=1, right=True),
    Column("harm at", (), right=True),
    Column("passes at", (), right=True),
    Column("says", ()),
    Column("units", (), goes=2, right=True),
    Column(f"-30 %{'0':^{_WIDTH - 10}}+30 %", (), goes=3),
    Column("role", (), goes=4),
    Column("requests", (), goes=5, right=True),
)
_PLAN = (
    Column("step", ()),
    Column("kpi", (), folds=True),
    Column("decision", ()),
    Column("effect", (), goes=1, right=True),
    Column("units p50", (), right=True),
    Column("units p80", (), goes=2, right=True),
    Column("undecided", (), right=True),
    Column("days p50", (), goes=3, right=True),
    Column("requests p50", (), goes=4, right=True),
    Column("floor", (), goes=5, right=True),
)
