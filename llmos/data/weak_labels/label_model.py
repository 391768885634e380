"""One label of many votes: by majority, or by the model of Dawid and Skene (1979), which weighs each rule by how it
errs.

A rule's abstention is an answer like any other: a rule that knows one label only says something by where it is silent.
So a confusion matrix is [labels, labels + 1], the last column an abstention. Rows without any vote are not fitted.

EM starts at the majority's vote and may drift from there, because rules that read the same words err together. So the
counts of the majority stay in every step, with the weight `anchor` of the model's own; 0 is the paper's EM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Votes = NDArray[Any]  # Any: integers; [rows, rules], -1 for an abstention

ANCHOR = 0.25  # the least that keeps keyword rules of two real sets from drifting (docs/log.md)
SMOOTHING = 0.1  # added to every count: nothing that was not seen is impossible
MOST_STEPS = 500
CLOSE = 1e-6  # the largest change of a probability at which EM has converged


@dataclass(frozen=True, slots=True, eq=False)
class LabelModel:
    """How often each label comes, [labels], and how each rule answers rows of it, [rules, labels, labels + 1]."""

    prior: Floats
    confusions: Floats
    steps: int

    def probabilities(self, votes: Votes) -> Floats:
        """How likely each label is by the votes, [rows, labels]; on rows without a vote all are equally likely."""
        found = _posterior(np.log(self.prior), np.log(self.confusions), votes)
        found[~has_vote(votes)] = 1 / len(self.prior)
        return found


def has_vote(votes: Votes) -> NDArray[np.bool_]:
    """Whether any rule votes on a row, [rows]."""
    made: NDArray[np.bool_] = np.any(votes >= 0, axis=1)
    return made


def majority(votes: Votes, labels: int) -> Floats:
    """The share of each label among a row's votes, [rows, labels]; on rows without a vote all are equal."""
    counts = np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    made: Floats = np.where(total > 0, counts / np.maximum(total, 1), 1 / labels)
    return made


def fit_dawid_skene(votes: Votes, labels: int, *, anchor: float = ANCHOR) -> LabelModel:
    """Fit by EM to the rows that have a vote. At least one must."""
    kept = votes[has_vote(votes)]
    assert len(kept), "no rule votes on any row"
    seen, weights = np.unique(kept, axis=0, return_counts=True)  # rows with the same votes are one
    start = majority(seen, labels)
    believed, steps = start, 0
    while True:
        prior, confusions = _maximize((believed + anchor * start) / (1 + anchor), seen, weights, labels)
        after = _posterior(np.log(prior), np.log(confusions), seen)
        change, believed, steps = float(np.abs(after - believed).max()), after, steps + 1
        if change < CLOSE or steps == MOST_STEPS:
            return LabelModel(prior, confusions, steps)


def _maximize(believed: Floats, votes: Votes, weights: NDArray[Any], labels: int) -> tuple[Floats, Floats]:
    """The model of which these beliefs are likeliest (the M step)."""
    mass = believed * weights[:, None]
    prior = mass.sum(axis=0) + SMOOTHING
    answers = np.where(votes < 0, labels, votes)
    counts = np.full((votes.shape[1], labels, labels + 1), SMOOTHING)
    for rule in range(votes.shape[1]):
        for answer in np.unique(answers[:, rule]):
            counts[rule, :, answer] += mass[answers[:, rule] == answer].sum(axis=0)
    return prior / prior.sum(), counts / counts.sum(axis=2, keepdims=True)


def _posterior(prior: Floats, confusions: Floats, votes: Votes) -> Floats:
    """How likely each label is by these votes (the E step); both arguments are logarithms."""
    labels = len(prior)
    answers = np.where(votes < 0, labels, votes)
    logs = np.tile(prior, (len(votes), 1))
    for rule in range(votes.shape[1]):
        logs += confusions[rule].T[answers[:, rule]]
    grown = np.exp(logs - logs.max(axis=1, keepdims=True))
    made: Floats = grown / grown.sum(axis=1, keepdims=True)
    return made
