"""The report of weak labelling: a line for each rule, and notes on rules that do nothing or harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmos.abi.json_type import Json
from llmos.data.weak_labels.rules import RuleFile
from llmos.data.weak_labels.summary import RuleSummary


@dataclass(frozen=True, slots=True)
class WeakReport:
    """What each rule of a file did, and how many of its votes on labelled rows are right (evaluation/weak_check.py)."""

    file: RuleFile
    labels: tuple[str, ...]
    summaries: Sequence[RuleSummary]
    checked: Sequence[Mapping[str, Json]]

    def rules(self) -> list[dict[str, Json]]:
        """Each rule with its counts, as the result has them."""
        return [
            {
                "name": rule.name,
                "line": rule.line,
                "labels": [self.labels[one] for one in found.labels],
                "votes": found.votes,
                "coverage": found.coverage,
                "overlaps": found.overlaps,
                "conflicts": found.conflicts,
                "believed_accuracy": found.believed,
                "checked": dict(checked),
            }
            for rule, found, checked in zip(self.file.rules, self.summaries, self.checked, strict=True)
        ]

    def notes(self) -> list[str]:
        """What a person should look at: rules that never vote, that are worse than chance, labels without a vote."""
        notes = []
        for rule, found, checked in zip(self.file.rules, self.summaries, self.checked, strict=True):
            where = f"{self.file.file}, line {rule.line}: the rule {rule.name!r}"
            if not found.votes:
                notes.append(f"{where} votes on no row")
            elif found.coverage == 1.0 and len(found.labels) == 1:
                notes.append(f"{where} votes for {self.labels[found.labels[0]]!r} on every row, which says nothing")
            if checked.get("high") is not None and checked["high"] < 1 / len(self.labels):
                notes.append(f"{where} is worse than chance: right on {checked['right']} of {checked['rows']} rows")
        voted = {one for found in self.summaries for one in found.labels}
        return notes + [f"No vote is for {label!r}" for number, label in enumerate(self.labels) if number not in voted]
