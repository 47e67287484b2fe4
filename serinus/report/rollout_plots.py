"""The plots of a rollout: intervals over units against their boundaries, the traffic over time, a bar for each KPI.

Invariant: one bar is one look; what has no end runs to the edge; changes are in per cent of the stable arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from serinus.core.rollout.record import KpiFigures, KpiPath, Point, RolloutRecord
from serinus.core.words import Stage
from serinus.report.svg import WIDTH, Axis, framed, spot

_LOW = 230
# A bar's scale, so that bars can be compared; what is beyond is drawn as an arrow.
_BAR = 0.3
_BAR_WIDTH, _BAR_HEIGHT = 190, 18
# How much of an interval beside its estimate the axis makes room for.
_ROOM = 0.4
_CLOCKS = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"), (180.0, 60.0, "minutes"))


def interval(path: KpiPath, *, decided_at: int | None = None) -> Markup:
    """The interval of a KPI at each look, over units; `decided_at`: which decided. Without estimates nothing."""
    shown = [one for one in path.points if one.estimate is not None]
    if not shown:
        return Markup("")
    x = Axis("units closed, all steps", 0.0, float(path.points[-1].units) * 1.03)
    y = _limits(path, shown)
    deciding = [one for one in shown if one.look == decided_at and one.enough][-1:]
    kind = "bad" if deciding and _is_harm(path, deciding[-1]) else "good"
    parts = [
        _burn_in(path, x, y),
        _level(0.0, "zero", x, y),
        *(_level(value, name, x, y) for value, name in ((path.harm, "harm"), (path.margin, "margin"))),
        *(_stages(path, x, y)),
        f'<path class="range" d="{"".join(_bar(one, x, y) for one in shown)}"/>',
        *(f'<path class="range {kind}" d="{_bar(one, x, y)}"/>' for one in deciding),
        _line(shown, x, y),
        *(_dot(one, f"dot {kind}", x, y) for one in deciding),
    ]
    better = "more is better" if path.direction == "higher" else "less is better"
    return framed(f"{path.kpi} ({path.role}; {better})", x, y, "".join(parts), height=_LOW)


def traffic(record: RolloutRecord) -> Markup:
    """What part of the units the canary answered, and saw mirrored, over time."""
    if len(record.traffic) < 2:
        return Markup("")
    begun, last = record.traffic[0].at, record.traffic[-1].at
    unit, name = next(((unit, name) for least, unit, name in _CLOCKS if last - begun >= least), (1.0, "seconds"))
    end = (last - begun) / unit * 1.1 or 1.0
    x, y = Axis(f"{name} since the start", 0.0, end), Axis("% of the units", 0.0, 105.0)
    starts = [(one.at - begun) / unit for one in record.traffic]
    ends = [*starts[1:], end]
    weights = [(*span, one.weight) for span, one in zip(zip(starts, ends, strict=True), record.traffic, strict=True)]
    shares = [(a, b, 100 * one.share) for (a, b, _), one in zip(weights, record.traffic, strict=True) if one.share]
    parts = [
        *(_block(*one, "mirrored", x, y) for one in shares),
        *(_block(*one, "answered", x, y) for one in weights),
        *(_note(a, b, f"{share:.0f} % mirrored", x, y) for a, b, share in shares),
        *(_note(a, b, f"{weight} %", x, y, weight) for a, b, weight in weights if weight),
    ]
    return framed("Traffic of the candidate", x, y, "".join(parts), height=_LOW)


def bar(one: KpiFigures) -> Markup:
    """Estimate, interval and boundaries on one line from -30 % to +30 %."""
    middle = _BAR_HEIGHT / 2
    parts = [f'<line class="zero" x1="{_across(0)}" x2="{_across(0)}" y1="1" y2="{_BAR_HEIGHT - 1}"/>']
    for value, name in ((one.harm, "harm"), (one.margin, "margin")):
        if value is not None and abs(value) <= _BAR:
            at = _across(value)
            parts.append(f'<line class="{name}" x1="{at}" x2="{at}" y1="1" y2="{_BAR_HEIGHT - 1}"/>')
    if one.estimate is not None:
        low, high = (-9.0 if one.low is None else one.low), (9.0 if one.high is None else one.high)
        parts.append(f'<path class="range" d="M{_across(low)} {middle}H{_across(high)}"/>')
        parts += [
            f'<path class="range" d="M{at + turn * 5} {middle - 4}L{at} {middle}L{at + turn * 5} {middle + 4}"/>'
            for beyond, at, turn in ((low < -_BAR, _across(-_BAR), 1), (high > _BAR, _across(_BAR), -1))
            if beyond
        ]
        if abs(one.estimate) <= _BAR:
            parts.append(f'<circle class="dot" cx="{_across(one.estimate)}" cy="{middle}" r="3.5"/>')
    return Markup(  # noqa: S704 - holds numbers, and a name that is escaped
        f'<svg class="interval" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" role="img" '
        f'aria-label="interval of {escape(one.name)}">{"".join(parts)}</svg>'
    )


def _across(value: float) -> float:
    clipped = min(max(value, -_BAR), _BAR)
    return round(4 + (_BAR_WIDTH - 8) * (clipped + _BAR) / (2 * _BAR), 1)


def _limits(path: KpiPath, shown: Sequence[Point]) -> Axis:
    """Room for both boundaries and for the last interval of each stage; earlier ones may run over the edge."""
    values = [0.0, *(value for value in (path.harm, path.margin) if value is not None)]
    for stage in Stage:
        mine = [one for one in shown if one.stage is stage]
        mine = [one for one in mine if one.enough] or mine
        estimates = [one.estimate or 0.0 for one in mine]
        values += estimates[len(mine) // 3 :]
        if mine:
            values += _near(mine[-1])
    low, high = 100 * min(values), 100 * max(values)
    room = max(0.15 * (high - low), 1.0)
    return Axis("change, %", low - room, high + room)


def _near(one: Point) -> tuple[float, float]:
    """An interval's ends, as far as there is room for them."""
    estimate = one.estimate or 0.0
    least, most = estimate - _ROOM, estimate + _ROOM
    return least if one.low is None else max(one.low, least), most if one.high is None else min(one.high, most)


def _clipped(value: float | None, otherwise: float, y: Axis) -> float:
    return min(max(otherwise if value is None else 100 * value, y.low), y.high)


def _bar(one: Point, x: Axis, y: Axis) -> str:
    across, bottom = spot(one.units, _clipped(one.low, y.low, y), x, y, _LOW)
    top = spot(one.units, _clipped(one.high, y.high, y), x, y, _LOW)[1]
    return f"M{across:.1f} {bottom:.1f}V{top:.1f}"


def _line(shown: Sequence[Point], x: Axis, y: Axis) -> str:
    """The estimates, one line a stage, for each is a test of its own."""
    stages = [[_spot(one, x, y) for one in shown if one.stage is stage] for stage in Stage]
    lines = "".join("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots) for spots in stages if spots)
    looks = "".join(f"M{a:.1f} {b:.1f}h0" for spots in stages for a, b in spots)
    return f'<path class="line s0" d="{lines}"/><path class="looks" d="{looks}"/>'


def _spot(one: Point, x: Axis, y: Axis) -> tuple[float, float]:
    return spot(one.units, _clipped(one.estimate, 0.0, y), x, y, _LOW)


def _dot(one: Point, name: str, x: Axis, y: Axis) -> str:
    across, down = _spot(one, x, y)
    return f'<circle class="{name}" cx="{across:.1f}" cy="{down:.1f}" r="5"/>'


def _level(value: float | None, name: str, x: Axis, y: Axis) -> str:
    if value is None:
        return ""
    left, down = spot(x.low, 100 * value, x, y, _LOW)
    return f'<line class="{name}" x1="{left:.0f}" x2="{spot(x.high, 0, x, y)[0]:.0f}" y1="{down:.1f}" y2="{down:.1f}"/>'


def _burn_in(path: KpiPath, x: Axis, y: Axis) -> str:
    """Shades where a stage had not enough data to decide anything."""
    parts, before = [], 0
    for stage in Stage:
        mine = [one for one in path.points if one.stage is stage]
        if not mine:
            continue
        until = next((one.units for one in mine if one.enough), mine[-1].units)
        left, top = spot(before, y.high, x, y, _LOW)
        right, bottom = spot(until, y.low, x, y, _LOW)
        parts.append(
            f'<rect class="burn" x="{left:.1f}" y="{top:.0f}" width="{right - left:.1f}" height="{bottom - top:.0f}"/>'
        )
        before = mine[-1].units
    return "".join(parts)


def _stages(path: KpiPath, x: Axis, y: Axis) -> list[str]:
    """A line where the weights begin, and the stages' names where there is room."""
    shadow = [one.units for one in path.points if one.stage is Stage.SHADOW]
    weights = [one.units for one in path.points if one.stage is Stage.WEIGHTS]
    change, end = (shadow[-1] if shadow else 0), path.points[-1].units
    parts = []
    for name, low, high in (("shadow", 0, change), ("weights", change, end)):
        left, top = spot(low, y.high, x, y, _LOW)
        if (high - low) / (end or 1) > 0.13:
            parts.append(f'<text class="axis" x="{left + 4:.1f}" y="{top - 3:.0f}">{name}</text>')
    if shadow and weights:
        across, bottom = spot(change, y.low, x, y, _LOW)
        parts.append(f'<line class="change" x1="{across:.1f}" x2="{across:.1f}" y1="{top:.0f}" y2="{bottom:.0f}"/>')
    return parts


def _is_harm(path: KpiPath, one: Point) -> bool:
    if path.harm is None:
        return False
    bound = one.high if path.direction == "higher" else one.low
    return bound is not None and (bound < path.harm if path.direction == "higher" else bound > path.harm)


def _block(start: float, end: float, value: float, name: str, x: Axis, y: Axis) -> str:
    left, top = spot(start, value, x, y, _LOW)
    right, bottom = spot(end, 0.0, x, y, _LOW)
    width, tall = max(right - left, 0.5), bottom - top
    return f'<rect class="{name}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall:.1f}"/>'


def _note(start: float, end: float, text: str, x: Axis, y: Axis, value: float = 100.0) -> str:
    """In the middle of a block, or from its nearer edge where the block is narrow."""
    left, top = spot(start, value, x, y, _LOW)
    right = spot(end, value, x, y, _LOW)[0]
    across, anchor = (left + right) / 2, "middle"
    if right - left < 8 * len(text):
        across, anchor = (left + 4, "start") if left < WIDTH / 2 else (right - 2, "end")
    return f'<text x="{across:.1f}" y="{top + 16:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
