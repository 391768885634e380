"""Decisions and answers with how sure the model was and which were right; calibration is fitted on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from llmos.evaluation.calibration import Flags, Floats, Indices


@dataclass(frozen=True, slots=True)
class Decisions:
    """Choices among labels: the probability of each label, [n, labels], and the true one, [n].

    `places`: the row of each choice, [n], where a row has several: those of one row are not independent.
    """

    shares: Floats
    true: Indices
    places: Indices | None = None

    @property
    def confidence(self) -> Floats:
        """The probability of each choice that was taken."""
        best: Floats = self.shares.max(-1)
        return best

    @property
    def right(self) -> Flags:
        """Whether it was the true one."""
        found: Flags = self.shares.argmax(-1) == self.true
        return found

    @property
    def units(self) -> Indices:
        """What each choice was drawn with, [n]: its row."""
        return np.arange(len(self.true)) if self.places is None else self.places


@dataclass(frozen=True, slots=True)
class Answers:
    """Whole answers, one a row: its surety (log-odds), and whether it is right.

    `by_label`: of each label the scores with which it was given or could be, and whether it was true. `one_label`: the
    choices, where a row has one label, and `given` the place of the label that is each row's answer, [n].
    """

    surety: Floats
    right: Flags
    by_label: dict[str, tuple[Floats, Flags]] = field(default_factory=dict)
    one_label: Decisions | None = None
    given: Indices | None = None
