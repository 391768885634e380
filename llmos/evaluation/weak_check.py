"""How right weak labels are on rows that people have labelled, and the temperature that their probabilities need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmos.abi.json_type import Json
from llmos.data.weak_labels.label_model import Floats, Votes, has_vote, majority
from llmos.evaluation.calibration import (
    BINS,
    Flags,
    Indices,
    Temperature,
    cross_fit_temperature,
    log_shares,
    reliability,
    temper,
)
from llmos.evaluation.statistics.intervals import wilson

LEAST_ROWS = 50  # labelled and voted on: with fewer a temperature is chance


@dataclass(frozen=True, slots=True)
class LabelledShare:
    """How many of these votes are right, with the 95 % interval of that share."""

    right: int
    rows: int

    def plain(self) -> dict[str, Json]:
        if not self.rows:
            return {"rows": 0, "right": 0, "accuracy": None, "low": None, "high": None}
        found = wilson(self.right, self.rows)
        share = self.right / self.rows
        return {"rows": self.rows, "right": self.right, "accuracy": share, "low": found.low, "high": found.high}


@dataclass(frozen=True, slots=True)
class WeakCheck:
    """The labels of labelled rows against what the rules say of them.

    `rules` are each rule's votes, `covered` the rows on which some rule votes; ties of the majority count as their
    share. `temperature` is None where there are too few rows; it is used only where it is better beyond chance.
    """

    rows: int
    rules: tuple[LabelledShare, ...]
    covered: LabelledShare
    majority_right: float
    losses: tuple[float, float] | None
    error: float | None
    error_by_chance: float | None
    temperature: Temperature | None

    @property
    def used_temperature(self) -> float:
        return self.temperature.value if self.temperature is not None and self.temperature.is_shown else 1.0

    def plain(self) -> dict[str, Json]:
        """As the result has it; `majority` is the same rows labelled by the plain majority of votes."""
        covered, temperature = self.covered.plain(), self.temperature
        by_majority: dict[str, Json] = {"accuracy": None, "low": None, "high": None}
        if self.covered.rows:
            found = wilson(self.majority_right, self.covered.rows)
            by_majority = {"accuracy": self.majority_right / self.covered.rows, "low": found.low, "high": found.high}
        return {
            "rows": self.rows,
            "covered": self.covered.rows,
            **{key: covered[key] for key in ("right", "accuracy", "low", "high")},
            "majority": by_majority,
            "log_loss": None if self.losses is None else self.losses[0],
            "majority_log_loss": None if self.losses is None else self.losses[1],
            "calibration_error": self.error,
            "calibration_error_by_chance": self.error_by_chance,
            "temperature": self.used_temperature,
            "temperature_p": None if temperature is None else temperature.p,
        }


def check_weak_labels(votes: Votes, true: Sequence[int], probabilities: Floats) -> WeakCheck:
    """Compare the rules' votes [rows, rules] and the label model's probabilities [rows, labels] with the true labels,
    of which -1 is none that the rules know."""
    answers: Indices = np.asarray(true, np.int64)
    shares = tuple(_share_of(votes[:, rule], answers) for rule in range(votes.shape[1]))
    kept = has_vote(votes)
    known = kept & (answers >= 0)
    right = probabilities[kept].argmax(axis=1) == answers[kept]
    covered = LabelledShare(int(right.sum()), int(kept.sum()))
    counted = majority(votes[known], probabilities.shape[1])
    best = counted == counted.max(axis=1, keepdims=True)
    majority_right = float((best[np.arange(len(best)), answers[known]] / best.sum(axis=1)).sum()) if len(best) else 0.0
    if known.sum() < LEAST_ROWS:
        return WeakCheck(len(answers), shares, covered, majority_right, None, None, None, None)
    own = probabilities[known]
    temperature = cross_fit_temperature(own, answers[known], np.arange(len(own)))
    tempered = temper(own, temperature.value if temperature.is_shown else 1.0)
    is_right: Flags = tempered.argmax(axis=1) == answers[known]
    found = reliability(tempered.max(axis=1), is_right, BINS)
    losses = (_loss(tempered, answers[known]), _loss(counted, answers[known]))
    return WeakCheck(len(answers), shares, covered, majority_right, losses, found.error, found.by_chance, temperature)


def _share_of(votes: Votes, true: Indices) -> LabelledShare:
    own = votes >= 0
    return LabelledShare(int((votes[own] == true[own]).sum()), int(own.sum()))


def _loss(shares: Floats, true: Indices) -> float:
    """The mean negative log likelihood, of probabilities that are at least one in a thousand."""
    return -float(log_shares(np.maximum(shares, 1e-3))[np.arange(len(true)), true].mean())
