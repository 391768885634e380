"""pfeiffer: a small layer behind the feed-forward part alone (Pfeiffer et al. 2020, arXiv:2005.00247)."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.method import Values, Widths
from llmos.abi.methods import houlsby


def count_weights(shape: Widths, values: Values) -> int:
    width: int = values["width"]
    return (shape.layers + shape.writing) * (2 * shape.hidden * width + width + shape.hidden)


METHOD = replace(
    houlsby.METHOD,
    name="pfeiffer",
    about="A small layer with an activation behind the feed-forward part of every layer.",
    trains="one small layer in every layer",
    count_weights=count_weights,
    source="Pfeiffer et al. 2020, arXiv:2005.00247",
)
