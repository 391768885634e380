"""The results of suites, and the robustness curve, as a section of HTML, or as a page of their own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from llmos.suites.curve import curve_svg
from llmos.suites.result import SuiteResult
from llmos.suites.robustness import NoisePoint

SHOWN = 50  # failures of a test


def section(results: Sequence[SuiteResult], curve: Sequence[NoisePoint] = ()) -> str:
    """What stands inside of a page: a table and the failures of each suite. Every text of a user is escaped."""
    return _render(results, curve, is_page=False)


def page(results: Sequence[SuiteResult], curve: Sequence[NoisePoint] = ()) -> str:
    """One HTML file with its styles, for light and dark."""
    return _render(results, curve, is_page=True)


def _render(results: Sequence[SuiteResult], curve: Sequence[NoisePoint], *, is_page: bool) -> str:
    from jinja2 import Environment  # not above: the command line needs it for pages alone

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = files("llmos.suites").joinpath("suite.html.jinja").read_text(encoding="utf-8")
    drawn = curve_svg(curve) if curve else ""
    return environment.from_string(template).render(
        results=results, curve=curve, drawn=drawn, is_page=is_page, shown=SHOWN
    )
