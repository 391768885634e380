"""The section of a report about calibration: what is promised, what was observed, and the reliability plot."""

from __future__ import annotations

from importlib.resources import files

from llmos.abi.json_type import Json


def section(calibration: dict[str, Json], plot: str) -> str:
    """The section as HTML, with this plot in it; empty where nothing was measured."""
    from jinja2 import Environment

    if not calibration:
        return ""
    template = files("llmos.evaluation").joinpath("calibration.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(c=calibration, plot=plot)
