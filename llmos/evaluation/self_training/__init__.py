"""Self-training: what a model believes of unlabelled rows; a file for each family of tasks that has such rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llmos.abi.task import Family, spec_of
from llmos.evaluation.self_training import labels, tags
from llmos.evaluation.self_training.selection import Belief
from llmos.tasks import Settings


class BelievingFamily(Protocol):
    """What a family's file has; rows and predictions are of the family's own types, which Any stands for here."""

    def blank(self, row: Any) -> Any:
        """The row, which nobody has labelled, as one that the task can render; its target counts for nothing."""
        ...

    def beliefs_of(self, rows: Any, predicted: Any, settings: Settings) -> Sequence[Belief]:
        """Each row with the label that its prediction gives it."""
        ...

    def target(self, row: Any) -> list[str]:
        """The row's label, or its tags, as JSON."""
        ...

    def with_target(self, row: Any, target: Sequence[str]) -> Any:
        """The unlabelled row with what `target` gave."""
        ...

    def is_right(self, row: Any, belief: Belief) -> bool:
        """Whether a labelled row has the label that is believed."""
        ...

    def same_units(self, row: Any, copy: Any) -> Sequence[bool]:
        """Which units of a row (its text, or its words) keep their label in a changed copy."""
        ...


BELIEVING: Mapping[Family, BelievingFamily] = {Family.LABELS: labels, Family.TAGS: tags}


def believing(task: str) -> BelievingFamily:
    """The file of this task's family."""
    return BELIEVING[spec_of(task).family]
