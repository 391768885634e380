"""What a model believes of untagged sentences: a tag for each word. The least certain words stand for a sentence.

Sentences with the same kinds of entities are a group: or those without any, which are the surest, would be learned
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmos.data.row import TagRow
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.self_training.selection import Belief
from llmos.tasks import Settings

UNSURE_WORDS = 3
NOT_YET = ""  # stands where a tag will be


def blank(row: TagRow) -> TagRow:
    """The row as one whose tags count for nothing."""
    return replace(row, tags=(NOT_YET,) * len(row.input["tokens"]))


def beliefs_of(rows: Sequence[TagRow], predicted: Sequence[TagPrediction], settings: Settings) -> list[Belief]:
    found = []
    for row, one in zip(rows, predicted, strict=True):
        tags = tuple(one.fill([settings.labels[i] for i in one.probabilities.argmax(-1)]))
        tagged = replace(row, tags=tags, spans=None)
        unsure = np.sort(one.probabilities.max(-1))[:UNSURE_WORDS]
        found.append(Belief(tagged, " ".join(sorted(tagged.kinds)), float(unsure.mean()) if len(unsure) else 0.0))
    return found


def target(row: TagRow) -> list[str]:
    return list(row.tags)


def with_target(row: TagRow, target: Sequence[str]) -> TagRow:
    return replace(row, tags=tuple(target), spans=None)


def is_right(row: TagRow, belief: Belief) -> bool:
    return bool(row.tags == belief.row.tags)


def same_units(row: TagRow, copy: TagRow) -> list[bool]:
    """A word in the place of another may have another tag."""
    return [one == other for one, other in zip(row.input["tokens"], copy.input["tokens"], strict=True)]
