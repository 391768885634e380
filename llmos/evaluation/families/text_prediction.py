"""The prediction of the text family: what a true answer costs, and what was generated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """What the true answer costs, in nats over all of its tokens, with their number; and the answer generated."""

    cost: float
    tokens: int
    answer: str | None = None  # None: nothing was generated for this row
