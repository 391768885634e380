"""Renders a search as one HTML file, which stands alone: its leaderboard, parallel coordinates and importances."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from llmos.abi.json_type import Json
from llmos.abi.tuning import Leaderboard, TrialRow
from llmos.evaluation.report.svg import Series, line_plot
from llmos.tuning.space import Dimension, Space

PAGE = "report.html"
WIDTH, HEIGHT = 900, 360
LEFT, RIGHT, TOP, BOTTOM = 50, 70, 40, 40
TICKS = 5
LONGEST = 14  # characters of a value on an axis


def page(board: Leaderboard, space: Space) -> str:
    """The page; every text of a user is escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = files("llmos.tuning").joinpath("page.html.jinja").read_text(encoding="utf-8")
    names = list(dict.fromkeys(name for row in board.trials for name in row.settings))
    default = next((row for row in board.trials if row.is_default), None)
    return environment.from_string(template).render(
        b=board,
        names=names,
        show=show,
        default=default,
        winner=next((row for row in board.trials if row.number == board.winner), None),
        coordinates=parallel_coordinates(board, space),
        curves=curves(board),
    )


def show(value: Json) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def style_of(row: TrialRow, board: Leaderboard) -> str:
    """The CSS class of a trial's line: the winner, one that was promoted, or another."""
    if row.number == board.winner:
        return "b"
    return "a" if len(row.metrics) > 1 else "faint"


def curves(board: Leaderboard) -> str:
    """The validation metric of each trial at its rungs."""
    lines = [
        Series("", [(100 * share, metric) for share, metric in zip(board.shares, row.metrics, strict=False)], style)
        for row in reversed(board.trials)
        if row.metrics and (style := style_of(row, board))
    ]
    return line_plot(lines, "% of the trial's own run", f"validation {board.metric}")


def parallel_coordinates(board: Leaderboard, space: Space) -> str:
    """Each trial as a line through its settings to its metric at the first rung (Inselberg 1985).

    A setting that a trial does not have is skipped by its line. Empty for a search without results.
    """
    measured = [row for row in board.trials if row.metrics]
    if not measured:
        return ""
    axes = [one for one in space.dimensions if any(one.name in row.factors for row in measured)]
    gap = (WIDTH - LEFT - RIGHT) / max(1, len(axes))
    parts = [_axis(one, LEFT + i * gap) for i, one in enumerate(axes)]
    metrics = [row.metrics[0] for row in measured]
    low, high = min(metrics), max(metrics)
    parts.append(_metric_axis(board.metric, LEFT + len(axes) * gap, low, high))
    for row in sorted(measured, key=lambda row: ("faint", "a", "b").index(style_of(row, board))):
        points = [
            (LEFT + i * gap, one.place_of(row.factors[one.name]))
            for i, one in enumerate(axes)
            if one.name in row.factors
        ]
        points.append((LEFT + len(axes) * gap, (row.metrics[0] - low) / (high - low) if high > low else 0.5))
        parts.append(_line(points, style_of(row, board), row))
    said = escape(f"{len(measured)} trials by {', '.join(one.name for one in axes)}", quote=True)
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>'
    return f"<figure>{drawing}</figure>"


def _up(place: float) -> float:
    return HEIGHT - BOTTOM - place * (HEIGHT - BOTTOM - TOP)


def _line(points: Sequence[tuple[float, float]], style: str, row: TrialRow) -> str:
    places = " ".join(f"{x:.1f},{_up(place):.1f}" for x, place in points)
    said = ", ".join(f"{name} {show(value)}" for name, value in row.settings.items())
    title = escape(f"trial {row.number}: {said}; {', '.join(f'{one:.4f}' for one in row.metrics)}")
    return f'<polyline class="line {style}" points="{places}"><title>{title}</title></polyline>'


def _axis(one: Dimension, x: float) -> str:
    if one.values:
        marks = [(one.place_of(value), show(value)) for value in one.values]
    else:
        marks = [(i / (TICKS - 1), f"{one.width ** (2 * i / (TICKS - 1) - 1):.3g}") for i in range(TICKS)]
    return _frame(one.name.replace("_", " "), x, marks)


def _metric_axis(name: str, x: float, low: float, high: float) -> str:
    marks = [(0.5, f"{low:.3f}")] if low == high else [(i / 4, f"{low + (high - low) * i / 4:.3f}") for i in range(5)]
    return _frame(name, x, marks)


def _frame(name: str, x: float, marks: Sequence[tuple[float, str]]) -> str:
    parts = [
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
        f'<text x="{x:.1f}" y="{TOP - 14}" text-anchor="middle">{escape(name)}</text>',
    ]
    parts += [
        f'<text x="{x + 5:.1f}" y="{_up(place) + 4:.1f}">{escape(text[:LONGEST])}</text>' for place, text in marks
    ]
    return "".join(parts)
