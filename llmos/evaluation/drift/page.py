"""Renders what a monitor has found as one HTML file, which stands alone: no script, nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

from llmos.abi.monitoring import LookRecord, MonitorState, SignalState
from llmos.evaluation.drift.look import FALSE_ALARMS_A_WEEK
from llmos.evaluation.report.svg import Series, line_plot

MOST_LOOKS = 300  # of a plot; of more, those at equal distances
WORDS = {"quiet": "Yes", "drift": "No", "waiting": "Not yet known", "starting": "Not yet known"}


def page(state: MonitorState, looks: Sequence[LookRecord]) -> str:
    """The page of a state and its looks, the oldest first; every text of a user is escaped."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = files("llmos.evaluation").joinpath("drift/page.html.jinja").read_text(encoding="utf-8")
    own = [one for one in looks if one.ref == state.ref]
    plots = [(one, _plot(one, own)) for one in sorted(state.signals, key=lambda one: one.p_value)]
    return environment.from_string(template).render(
        s=state,
        word=WORDS.get(state.status, state.status),
        said=_sentence(state),
        plots=plots,
        time=_time,
        budget=FALSE_ALARMS_A_WEEK,
    )


def _sentence(state: MonitorState) -> str:
    drifting = [one.signal.replace("_", " ") for one in state.signals if one.is_drifting]
    if drifting:
        return f"They differ by {', '.join(drifting)}."
    if state.status == "quiet":
        return "No signal differs more than chance explains."
    return "There were too few calls to look at."


def _plot(signal: SignalState, looks: Sequence[LookRecord]) -> str:
    """The statistic by calls, and its threshold."""
    found = [(one.calls, *one.signals[signal.signal]) for one in looks if signal.signal in one.signals]
    step = max(1, math.ceil(len(found) / MOST_LOOKS))
    some = found[(len(found) - 1) % step :: step]  # the newest is one of them
    lines = [
        Series("statistic", [(calls, statistic) for calls, statistic, *_ in some], "b" if signal.is_drifting else "a"),
        Series("alarm", [(calls, threshold) for calls, _, threshold, _ in some], "faint", has_dots=False),
    ]
    return line_plot(lines, "calls", "statistic")


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
