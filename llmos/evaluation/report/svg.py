"""Line plots as SVG that stands inside a page: colours come from the page's CSS, so that they follow dark and light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 290
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 46
TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its points, and where it has one, the band around it as (x, low, high). `style` is a CSS class of the
    page: a, b, c or faint."""

    name: str
    points: Sequence[Point]
    style: str = "a"
    has_dots: bool = True
    band: Sequence[tuple[float, float, float]] = ()


def line_plot(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """The plot with axes, ticks and a legend; empty where there is nothing to draw."""
    points = [point for one in series for point in one.points if all(map(math.isfinite, point))]
    points += [(x, y) for one in series for x, low, high in one.band for y in (low, high)]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across, up = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT), _Scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [_axes(across, up, x_label, y_label)]
    parts += [_line(one, across, up) for one in series]
    names = [one for one in series if one.name]
    legend = "".join(f'<span class="key {one.style}">{escape(one.name)}</span>' for one in names)
    said = escape(f"{y_label} by {x_label}", quote=True)
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    return f"<figure>{drawing}<figcaption>{legend}</figcaption></figure>" if legend else f"<figure>{drawing}</figure>"


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places on the page, with a margin around the values."""

    least: float
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self.ends
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    @property
    def ends(self) -> tuple[float, float]:
        room = (self.most - self.least) * 0.04 or abs(self.most) * 0.1 or 1.0
        return self.least - room, self.most + room

    @property
    def ticks(self) -> list[float]:
        """Round numbers between the ends."""
        low, high = self.ends
        raw = (high - low) / TICKS
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw)
        return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    floor, middle = HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2
    lines = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{up(y) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        for y in up.ticks
    ]
    lines += [
        f'<text x="{across(x):.1f}" y="{floor + 18}" text-anchor="middle">{_number(x)}</text>' for x in across.ticks
    ]
    lines.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    lines.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    )
    lines.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(lines)


def _line(one: Series, across: _Scale, up: _Scale) -> str:
    parts = []
    if one.band:
        edge = [(x, high) for x, _, high in one.band] + [(x, low) for x, low, _ in reversed(one.band)]
        parts.append(f'<polygon class="band {one.style}" points="{_places(edge, across, up)}"/>')
    shown = [point for point in one.points if all(map(math.isfinite, point))]
    if len(shown) > 1:
        parts.append(f'<polyline class="line {one.style}" points="{_places(shown, across, up)}"/>')
    if one.has_dots:
        parts += [f'<circle class="dot {one.style}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>' for x, y in shown]
    return "".join(parts)


def _places(points: Sequence[Point], across: _Scale, up: _Scale) -> str:
    return " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
