"""The robustness curve as a drawing: SVG for pages, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llmos.suites.robustness import NoisePoint

COLOURS = ("#2563eb", "#b45309", "#15803d", "#7c3aed", "#be123c", "#0e7490")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 48, 130, 16, 40


def curve_svg(points: Sequence[NoisePoint]) -> str:
    """The curve as SVG for pages light and dark: accuracy where it is known, else agreement, with its intervals."""
    has_accuracy = all(one.accuracy is not None for one in points)
    drawn = "accuracy" if has_accuracy else "agreement"
    levels = sorted({one.level for one in points})
    values = [_value(one, has_accuracy) for one in points]
    floor = max(0.0, min(low for _, low, _ in values) // 0.1 * 0.1)
    span = max(levels[-1] - levels[0], 1e-9)

    def x(level: float) -> float:
        return LEFT + (level - levels[0]) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value) / (1 - floor) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="12" fill="currentColor"><title>{drawn} by noise</title>'
    ]
    ticks = [floor + (1 - floor) * i / 5 for i in range(6)]
    parts += [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="currentColor" '
        f'stroke-opacity="0.15"/><text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.2f}</text>'
        for tick in ticks
    ]
    parts += [
        f'<text x="{x(level):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{level:.0%}</text>'
        for level in levels
    ]
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{drawn}, by the share of words with a slip</text>')
    for nth, noise in enumerate(dict.fromkeys(one.noise for one in points)):
        colour = COLOURS[nth % len(COLOURS)]
        line = sorted((one for one in points if one.noise == noise), key=lambda one: one.level)
        at = [(x(one.level), *_value(one, has_accuracy)) for one in line]
        band = [f"{left:.1f},{y(high):.1f}" for left, _, _, high in at]
        band += [f"{left:.1f},{y(low):.1f}" for left, _, low, _ in reversed(at)]
        path = " ".join(f"{left:.1f},{y(value):.1f}" for left, value, _, _ in at)
        parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" fill-opacity="0.1"/>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += (f'<circle cx="{left:.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for left, value, _, _ in at)
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 18 * nth}" fill="{colour}">{escape(noise)}</text>')
    return "".join([*parts, "</svg>"])


def _value(point: NoisePoint, has_accuracy: bool) -> tuple[float, float, float]:
    """What is drawn of a point, and its interval."""
    if has_accuracy and point.accuracy is not None and point.accuracy_interval is not None:
        return point.accuracy, *point.accuracy_interval
    return point.agreement, *point.agreement_interval
