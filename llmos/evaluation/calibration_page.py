"""The section of a report about calibration: what is promised, what was observed, and the reliability plot."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE, AFTER, INK = "#9ca3af", "#2563eb", "#1f2937"


def section(calibration: dict[str, Json], plot: str) -> str:
    """The section as HTML, with this plot in it; empty where nothing was measured."""
    from jinja2 import Environment

    if not calibration:
        return ""
    template = files("llmos.evaluation").joinpath("calibration.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(c=calibration, plot=plot)


def reliability_plot(calibration: dict[str, Json]) -> Figure:
    """Accuracy by confidence, before and after the temperature; on the diagonal both are the same."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="perfectly calibrated")
    for name, color in (("before", BEFORE), ("after", AFTER)):
        bins = calibration[name]["bins"]
        axes.plot([one[1] for one in bins], [one[2] for one in bins], color=color, marker="o", markersize=4, label=name)
    lowest = min(min(one[1:]) for name in ("before", "after") for one in calibration[name]["bins"])
    axes.set_xlim(max(0.0, lowest - 0.05), 1.01)
    axes.set_ylim(max(0.0, lowest - 0.05), 1.01)
    axes.set_xlabel("confidence", color=INK)
    axes.set_ylabel("accuracy", color=INK)
    axes.legend(frameon=False)
    figure.set_layout_engine("tight")
    return figure
