"""Small inline plots: points, lines and bars as SVG that scales with the page and follows its colours.

Invariant: no script, no font, no outside reference; every plot has a title that says what it shows, every series a
shape or dash of its own, so that colour is never the only difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 46
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 5")
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """Points in order of x; drawn as a line, or as marks when `marks` is set; `labels` stand beside marks."""

    name: str
    points: Sequence[tuple[float, float]]
    marks: bool = False
    labels: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Axis:
    """Title and limits; `log` scales by powers of ten."""

    title: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Position in 0 to 1."""
        from math import log10

        if self.log:
            low, high = log10(self.low), log10(self.high)
            return (log10(max(value, self.low)) - low) / (high - low)
        return (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self) -> list[float]:
        """Round values inside the limits."""
        if self.log:
            return [tick for tick in (10.0**power for power in range(-4, 5)) if self.low <= tick <= self.high]
        step = _round_step((self.high - self.low) / _TICKS)
        first = int(self.low / step) if self.low >= 0 else int(self.low / step) - 1
        values = [step * count for count in range(first, first + 4 * _TICKS)]
        return [value for value in values if self.low - step * 1e-6 <= value <= self.high + step * 1e-6]


def around(title: str, values: Sequence[float], *, log: bool = False, pad: float = 0.08) -> Axis:
    """An axis that holds all values with a little room."""
    low, high = min(values), max(values)
    if log:
        return Axis(title, max(low, 1e-4) / 2.5, high * 2.5, log=True)
    room = (high - low or abs(high) or 1.0) * pad
    return Axis(title, low - room, high + room)


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> Markup:
    """A plot with axes, grid and legend."""
    return framed(title, x, y, "".join(_draw(one, place, x, y) for place, one in enumerate(series)), _legend(series))


def framed(title: str, x: Axis, y: Axis, body: str, legend: str = "", *, height: int = HEIGHT) -> Markup:
    """A plot with axes and grid around `body`: SVG whose texts are escaped, placed by `spot` for the same height."""
    parts = (_grid(x, y, height), body, _axis_titles(x, y, height))
    return _figure(title, "".join(parts), legend, height=height)


def bars(title: str, rows: Sequence[tuple[str, float, str]], *, split: Sequence[float] = ()) -> Markup:
    """Horizontal bars of (label, value, text); `split` is the part of each that is drawn lighter, from its start."""
    if not rows:
        return Markup("")
    height, top = 24, max((value for _, value, _ in rows), default=0.0) or 1.0
    parts = []
    for place, (label, value, text) in enumerate(rows):
        y, width = place * height, 210 * value / top
        parts.append(f'<text x="152" y="{y + 16}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect class="bar" x="160" y="{y + 4}" width="{max(width, 0.5):.1f}" height="15" rx="2"/>')
        if split:
            parts.append(f'<rect class="part" x="160" y="{y + 4}" width="{210 * split[place] / top:.1f}" height="15"/>')
        parts.append(f'<text x="{166 + width:.1f}" y="{y + 16}">{escape(text)}</text>')
    width = 376 + 7 * max(10, *(len(text) for _, _, text in rows))
    return _figure(title, "".join(parts), "", height=len(rows) * height + 4, width=width)


def _figure(title: str, body: str, legend: str, *, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    return Markup(  # noqa: S704 - every text in `body` and `legend` was escaped where it was put in
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">{body}</svg>{legend}</figure>'
    )


def _draw(one: Series, place: int, x: Axis, y: Axis) -> str:
    points = [spot(px, py, x, y) for px, py in one.points]
    style = f"s{place % 5}"
    if not one.marks:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        return f'<polyline class="line {style}" points="{path}" stroke-dasharray="{_DASHES[place % 5]}"/>'
    labels = one.labels or [""] * len(points)
    return "".join(
        f'<circle class="mark {style}" cx="{px:.1f}" cy="{py:.1f}" r="5"/>'
        f'<text x="{px + (9 if px < WIDTH * 0.7 else -9):.1f}" y="{py + 4:.1f}" '
        f'text-anchor="{"start" if px < WIDTH * 0.7 else "end"}">{escape(label)}</text>'
        for (px, py), label in zip(points, labels, strict=True)
    )


def spot(px: float, py: float, x: Axis, y: Axis, height: int = HEIGHT) -> tuple[float, float]:
    """Where a value is drawn, in the units of the plot."""
    across, down = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    return _LEFT + across * x.place(px), _TOP + down * (1 - y.place(py))


def _grid(x: Axis, y: Axis, height: int) -> str:
    parts = []
    for tick in x.ticks():
        across, bottom = spot(tick, y.low, x, y, height)
        parts.append(f'<line class="grid" x1="{across:.1f}" x2="{across:.1f}" y1="{_TOP}" y2="{bottom:.0f}"/>')
        parts.append(f'<text x="{across:.1f}" y="{bottom + 17:.0f}" text-anchor="middle">{tick:.4g}</text>')
    for tick in y.ticks():
        down = spot(x.low, tick, x, y, height)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    return "".join(parts)


def _axis_titles(x: Axis, y: Axis, height: int) -> str:
    middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
    return (
        f'<text class="axis" x="{middle}" y="{height - 8}" text-anchor="middle">{escape(x.title)}</text>'
        f'<text class="axis" transform="translate(14 {_TOP + (height - _TOP - _BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>'
    )


def _legend(series: Sequence[Series]) -> str:
    """Only where lines need names; marks carry their own."""
    lines = [(place, one) for place, one in enumerate(series) if not one.marks]
    keys = "".join(
        f'<li><svg viewBox="0 0 28 10" class="key"><line class="line s{place % 5}" x1="0" x2="28" y1="5" y2="5" '
        f'stroke-dasharray="{_DASHES[place % 5]}"/></svg>{escape(one.name)}</li>'
        for place, one in lines
    )
    return f'<ul class="legend">{keys}</ul>' if keys else ""


def _round_step(raw: float) -> float:
    from math import floor, log10

    scale = 10.0 ** floor(log10(raw)) if raw > 0 else 1.0
    return next(scale * step for step in (1, 2, 2.5, 5, 10) if scale * step >= raw * 0.999)
