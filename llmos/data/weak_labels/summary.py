"""What the votes of rules look like beside each other: coverage, overlaps, conflicts, and how right a rule seems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmos.data.weak_labels.label_model import Floats, Votes


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """One rule's votes: on which share of the rows it votes (`coverage`), on which another does too (`overlaps`), and
    on which another votes for another label (`conflicts`).

    `believed` is how often its votes are right by the label model; None where it never votes.
    """

    votes: int
    labels: tuple[int, ...]
    coverage: float
    overlaps: float
    conflicts: float
    believed: float | None


def summarize(votes: Votes, probabilities: Floats) -> list[RuleSummary]:
    """A summary of each rule's votes, [rows, rules], with the label model's probabilities, [rows, labels]."""
    rows = max(1, len(votes))
    has_vote = votes >= 0
    many = has_vote.sum(axis=1) > 1
    found = []
    for rule in range(votes.shape[1]):
        own = np.flatnonzero(has_vote[:, rule])
        given = votes[own, rule]
        others = np.where(has_vote[own], votes[own], given[:, None])
        conflicts = (others != given[:, None]).any(axis=1)
        believed = float(probabilities[own, given].mean()) if len(own) else None
        kinds = tuple(int(one) for one in np.unique(given))
        found.append(
            RuleSummary(
                len(own), kinds, len(own) / rows, int(many[own].sum()) / rows, int(conflicts.sum()) / rows, believed
            )
        )
    return found
