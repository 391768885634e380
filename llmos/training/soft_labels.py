"""Soft labels: rows whose labels are by rules are learned by how likely each label is, others by their label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmos.abi.distillation import Distillation
from llmos.abi.weak_labels import WEAK_LABEL
from llmos.data.datasets.stored_row import StoredRow
from llmos.training.distillation import SoftTarget
from llmos.training.examples import Example
from llmos.training.objectives import taught_family

LEAST = 1e-6  # a probability of nothing at all has no logarithm
BY_RULES = Distillation("rules", weight=1.0, temperature=1.0)  # the loss is the cross-entropy with the probabilities


def logits_of(stored: StoredRow[Any], labels: Sequence[str]) -> Tensor:
    """The logarithms of the label's probabilities by rules, [1, labels]; not a number for a row that has none."""
    found = stored.extra.get(WEAK_LABEL)
    shares = found.get("probabilities") if isinstance(found, dict) else None
    if not isinstance(shares, dict):
        return torch.full((1, len(labels)), float("nan"))
    made = torch.tensor([[float(shares.get(label, 0.0)) for label in labels]])
    return (made / made.sum()).clamp_min(LEAST).log() if made.sum() > 0 else torch.full_like(made, float("nan"))


def soften(
    task: str, examples: Sequence[Example[Any]], stored: Sequence[StoredRow[Any]], labels: Sequence[str]
) -> list[Example[SoftTarget]]:  # Any: hard targets of the task's family
    """The examples with soft targets. Those beyond the stored rows, as changed copies are, keep their label."""
    units_of = taught_family(task).units_of
    none = torch.full((1, len(labels)), float("nan"))
    made = []
    for place, one in enumerate(examples):
        units = units_of(one.rendered)
        logits = logits_of(stored[place], labels) if place < len(stored) else none
        target = SoftTarget(one.target.labels, units.places, units.outputs, logits, is_labelled=True)
        made.append(Example(one.rendered, target))
    return made


def digest_of(stored: Sequence[StoredRow[Any]]) -> str:
    """Of the probabilities that are learned: with others, no old checkpoint is gone on from."""
    seen = hashlib.sha256()
    for one in stored:
        if WEAK_LABEL in one.extra:
            seen.update(f"{one.id} {one.extra[WEAK_LABEL]!r}".encode())
    return seen.hexdigest()
