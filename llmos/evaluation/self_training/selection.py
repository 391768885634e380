"""Which unlabelled rows are learned with the label that a model gives them, and how many of those labels are right.

Confidence is compared within a label alone: each has a threshold of its own, so labels that a model is less sure of are
learned as well (FlexMatch, Zhang et al. 2021, arXiv:2110.08263; class-balanced self-training, Zou et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.json_type import Json
from llmos.evaluation.statistics.intervals import wilson


@dataclass(frozen=True, slots=True)
class Belief:
    """A row with the label, or the tags, that a model gives it; the group whose rows share a threshold; and how sure
    the model is, from 0 to 1."""

    row: Any  # Any: of the task's family
    group: str
    confidence: float


def thresholds(beliefs: Sequence[Belief], share: float) -> dict[str, float]:
    """The least confidence of each group, which this share of its rows reaches; at least one row does."""
    groups: dict[str, list[float]] = {}
    for one in beliefs:
        groups.setdefault(one.group, []).append(one.confidence)
    return {
        group: sorted(held, reverse=True)[max(1, math.ceil(share * len(held))) - 1] for group, held in groups.items()
    }


def is_sure(belief: Belief, least: Mapping[str, float]) -> bool:
    """Whether it reaches its group's threshold; a group without one has no sure rows."""
    return belief.confidence >= least.get(belief.group, math.inf)


def choose(beliefs: Sequence[Belief], share: float) -> tuple[list[int], dict[str, float]]:
    """The places of the surest rows of each group, this share of them, and the thresholds; ties by place."""
    least = thresholds(beliefs, share)
    counts: dict[str, int] = {}
    for one in beliefs:
        counts[one.group] = counts.get(one.group, 0) + 1
    left = {group: max(1, math.ceil(share * count)) for group, count in counts.items()}
    chosen = []
    for place in sorted(range(len(beliefs)), key=lambda i: (-beliefs[i].confidence, i)):
        if left[beliefs[place].group]:
            left[beliefs[place].group] -= 1
            chosen.append(place)
    return sorted(chosen), least


def estimated_precision(held: Sequence[Belief], right: Sequence[bool], least: Mapping[str, float]) -> dict[str, Json]:
    """Of labelled rows that the model did not learn from, and is as sure of: how many it is right about, with the 95 %
    interval; null where it is sure of none."""
    sure = [is_right for one, is_right in zip(held, right, strict=True) if is_sure(one, least)]
    if not sure:
        return {"precision": None, "low": 0.0, "high": 1.0, "rows": 0}
    interval = wilson(float(sum(sure)), len(sure))
    return {"precision": sum(sure) / len(sure), "low": interval.low, "high": interval.high, "rows": len(sure)}
